"""
The AWS wire protocols: parses HTTP requests, and builds responses and errors in the
protocol of the request.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

from sagemaker_emulator.errors import ApiError

# In the Authorization header, or in the query of a presigned URL.
_CREDENTIAL_SCOPE = re.compile(
    r"(?:Credential=|^)([^/,\s]+)/\d{8}/([^/,\s]+)/([^/,\s]+)/aws4_request"
)
_JSON = "application/x-amz-json-1.1"
_REQUEST_ID = "x-amzn-RequestId"
# In the namespace of the responses.
_API_VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
_TARGET = re.compile(r"(\w+)\.(\w+)")
# The API accepts an ARN wherever it accepts a pipeline name.
_PIPELINE = re.compile(r"(?:arn:.+:pipeline/)?([^/]+)")
_PIPELINE_MEMBERS = (
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionArn",
    "ResourceArn",
)


@dataclass
class AwsRequest:
    """
    The parts of an AWS request that the emulator uses.

    ``body`` is set for the JSON and the query protocol only, ``document`` (the parsed
    body) for the JSON protocol only, ``form`` for the query protocol only.

    :param refusal: why the body is refused; None if it is not.
    """

    service: str
    operation: str
    region: str
    access_key_id: str
    user_agent: str
    target: str | None
    session_token: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)
    document: Any = field(default_factory=dict, repr=False)
    refusal: ApiError | None = None
    form: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def protocol(self) -> str:
        """The protocol: ``json``, ``query`` or ``rest``."""
        if self.target:
            return "json"
        if self.form:
            return "query"
        return "rest"

    @property
    def members(self) -> dict[str, Any]:
        """The members of a request in the JSON protocol; empty if it has none."""
        if isinstance(self.document, dict):
            return self.document
        return {}

    @property
    def pipeline(self) -> str | None:
        """
        The pipeline name in a SageMaker request, in lower case; None if the request
        names no pipeline.
        """
        if self.target != "SageMaker":
            return None
        for member in _PIPELINE_MEMBERS:
            name_or_arn = self.members.get(member)
            if isinstance(name_or_arn, str):
                match = _PIPELINE.match(name_or_arn.lower())
                return match[1] if match else None
        return None


def is_of_s3(request: Request) -> bool:
    """Return whether a request has an object of S3 as its body, by its signature."""
    scope = _credential_scope(request)
    if scope is None:
        return _service_without_scope(request, "") == "s3"
    return scope[3] == "s3"


def _credential_scope(request: Request) -> re.Match[str] | None:
    credential = request.headers.get("Authorization") or request.args.get(
        "X-Amz-Credential", ""
    )
    return _CREDENTIAL_SCOPE.search(credential)


def parse_request(request: Request, refusal: ApiError | None) -> AwsRequest:
    """
    Parse a request. The body stays readable for moto, and the signature is not
    verified.

    :param request: the request.
    :param refusal: why its body is refused; None if it is not.
    """
    scope = _credential_scope(request)
    target = _TARGET.fullmatch(request.headers.get("X-Amz-Target", ""))
    is_form = (
        request.mimetype == "application/x-www-form-urlencoded" and request.path == "/"
    )
    body = b""
    document: Any = {}
    if target or is_form:
        body = request.get_data()
        # moto reads the body of the same request again.
        request.environ["wsgi.input"] = io.BytesIO(body)
    if target and refusal is None:
        try:
            document = _parsed(body)
        except ApiError as error:
            refusal = error
    form: dict[str, str] = {}
    if is_form:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    if "Action" not in form:
        # It is a form, but not one of the query protocol.
        form = {}

    if target:
        operation = target[2]
    else:
        operation = form.get("Action", f"{request.method} {request.path}")

    if scope:
        access_key_id, region, service = scope.groups()
    else:
        access_key_id = ""
        region = "us-east-1"
        service = _service_without_scope(request, operation)
    return AwsRequest(
        service=service,
        operation=operation,
        region=region,
        access_key_id=access_key_id,
        user_agent=request.headers.get("User-Agent", ""),
        target=target[1] if target else None,
        session_token=request.headers.get("X-Amz-Security-Token", ""),
        body=body,
        document=document,
        refusal=refusal,
        form=form,
    )


def _parsed(body: bytes) -> Any:
    """
    Return the JSON value of a body.

    :raises ApiError: SerializationException if it is none, or has half of a character.
    """
    try:
        document = json.loads(body or b"{}", parse_constant=_refuse_constant)
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ApiError(
            "SerializationException", f"The body is not JSON: {error}"
        ) from error
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _service_without_scope(request: Request, operation: str) -> str:
    if operation.startswith("AssumeRoleWith"):
        return "sts"
    if "AWSAccessKeyId" in request.args:
        # A presigned URL with the older signature, which boto3 makes for S3 by default.
        return "s3"
    return ""


def json_response(body: dict[str, Any], request_id: str) -> Response:
    """Return a successful response in the JSON protocol."""
    return Response(
        json.dumps(body), headers={_REQUEST_ID: request_id}, content_type=_JSON
    )


def query_response(
    aws: AwsRequest, result: dict[str, Any], request_id: str
) -> Response:
    """Return a successful response of STS or IAM in the query protocol."""
    operation = aws.operation
    version = _API_VERSIONS[aws.service]
    body = (
        f"<{operation}Response"
        f' xmlns="https://{aws.service}.amazonaws.com/doc/{version}/">'
        f"<{operation}Result>{_xml(result)}</{operation}Result>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        f"</{operation}Response>"
    )
    return Response(body, headers={_REQUEST_ID: request_id}, content_type="text/xml")


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(
            f"<{name}>{_xml(member)}</{name}>" for name, member in value.items()
        )
    if isinstance(value, list):
        return "".join(f"<member>{_xml(member)}</member>" for member in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))


def error_response(error: ApiError, protocol: str, request_id: str) -> Response:
    """
    Return an error response.

    :param error: the error.
    :param protocol: the protocol of the request: ``json``, ``query`` or ``rest``.
    :param request_id: the request id of the response.
    """
    headers = {_REQUEST_ID: request_id}
    if protocol == "json":
        body = json.dumps({"__type": error.code, "message": error.message})
        return Response(body, error.status, headers, content_type=_JSON)

    code = f"<Code>{escape(error.code)}</Code>"
    message = f"<Message>{escape(error.message)}</Message>"
    body = f"<Error>{code}{message}</Error>"
    if protocol == "query":
        request = f"<RequestId>{request_id}</RequestId>"
        body = f"<ErrorResponse>{body}{request}</ErrorResponse>"
    return Response(body, error.status, headers, content_type="application/xml")
