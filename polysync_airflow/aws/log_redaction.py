"""
Keeps secrets out of botocore's debug log, where botocore writes requests and responses.

The values that botocore logs show ``***`` instead of their content. The loggers themselves are left as they
are: they belong to every user of botocore in the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final
from urllib.parse import quote

from botocore.awsrequest import AWSRequest
from botocore.model import Shape
from botocore.session import Session
from botocore.signers import RequestSigner

REDACTED = "***"
# The second one is that of S3's directory buckets.
_TOKEN_HEADERS: Final = ("X-Amz-Security-Token", "X-Amz-S3session-Token")
# What proves an identity to STS.
_TOKEN_MEMBERS: Final = frozenset({"SAMLAssertion", "WebIdentityToken"})
# The methods of botocore's signers that return the text to sign, which botocore logs.
_SIGNED_TEXTS: Final = ("canonical_request", "canonical_string")
# The responses with credentials, and those with callback tokens, which end a step for whoever knows them.
_SECRET_RESPONSES: Final = frozenset(
    {
        "AssumeRoleResponse",
        "AssumeRoleWithSAMLResponse",
        "AssumeRoleWithWebIdentityResponse",
        # Of S3's directory buckets, and of the sign-in by IAM Identity Center.
        "CreateSessionOutput",
        "GetRoleCredentialsResponse",
        "ListPipelineExecutionStepsResponse",
        "ReceiveMessageResult",
        # Errors quote tokens.
        "SendPipelineExecutionStepFailureResponse",
        "SendPipelineExecutionStepSuccessResponse",
    }
)


class RedactedStr(str):
    """A text whose ``repr``, which is what botocore logs of a request's parameters, does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED)


class RedactedBytes(bytes):
    """Bytes whose ``repr``, which is what botocore logs of a response's body, does not show them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(REDACTED.encode())


class _SignedText(str):
    """A text that is signed with the token of a session, and does not show it, for example by ``%s``."""

    token: str

    def __str__(self) -> str:
        text = str.__str__(self)
        for token in (self.token, quote(self.token, safe="-_.~")):
            text = text.replace(token, REDACTED)
        return text

    def __repr__(self) -> str:
        return repr(str(self))


def hide_secrets(session: Session) -> None:
    """
    Keep secrets out of the log lines in which botocore shows requests.

    These are session tokens, what proves an identity to STS, and the callback tokens of steps. Airflow's
    secrets masker looks into texts only before Airflow 3, and botocore logs objects; and it does not know the
    credentials that STS returns.

    :param session: a session that has made no client yet.
    """
    events = session.get_component("event_emitter")
    answer = "sagemaker.SendPipelineExecutionStep"
    for operation in (f"{answer}Success", f"{answer}Failure", "sqs.SendMessage"):
        events.register_last(f"before-call.{operation}", _redact_body)
    events.register_last("before-call.sts", _redact_identity)
    events.register_last("before-sign", _redact_signed_text)
    events.register_last("request-created", _redact_headers)


def without_secrets(response: Mapping[str, Any], shape: Shape | None) -> Mapping[str, Any]:
    """
    Return a response whose body botocore's parser does not log, if it has secrets.

    :param shape: what the response is.
    """
    if shape is None or shape.name not in _SECRET_RESPONSES:
        return response
    return {**response, "body": RedactedBytes(response["body"])}


def _redact_body(params: dict[str, Any], **_: Any) -> None:
    if isinstance(body := params.get("body"), bytes):
        params["body"] = RedactedBytes(body)


def _redact_identity(params: dict[str, Any], **_: Any) -> None:
    body = params.get("body")
    if isinstance(body, dict):
        body |= {name: RedactedStr(body[name]) for name in _TOKEN_MEMBERS & body.keys()}


def _redact_headers(request: AWSRequest, **_: Any) -> None:
    # After the signature, and as bytes, which botocore would make of a text.
    headers: Any = request.headers
    for name in _TOKEN_HEADERS:
        token = headers[name]
        if isinstance(token, str):
            headers.replace_header(name, RedactedBytes(token.encode()))


def _redact_signed_text(request_signer: RequestSigner, **_: Any) -> None:
    # On the signer of this client only.
    request_signer.get_auth_instance = partial(_make_auth, request_signer)  # type: ignore[method-assign]


def _make_auth(signer: RequestSigner, *arguments: Any, **options: Any) -> Any:
    auth = type(signer).get_auth_instance(signer, *arguments, **options)
    # botocore has one of these for each request.
    auth.__class__ = _redacting(auth.__class__)
    return auth


@cache
def _redacting(auth: type[Any]) -> type[Any]:
    """Return a subclass of one of botocore's, which logs the texts that it signs without the token."""
    methods = {name: _redacted(getattr(auth, name)) for name in _SIGNED_TEXTS if hasattr(auth, name)}
    return type(auth.__name__, (auth,), methods)


def _redacted(method: Callable[..., str]) -> Callable[..., str]:
    def signed_text(auth: Any, *arguments: Any, **options: Any) -> str:
        text = method(auth, *arguments, **options)
        if auth.credentials.token:
            text = _SignedText(text)
            text.token = auth.credentials.token
        return text

    return signed_text
