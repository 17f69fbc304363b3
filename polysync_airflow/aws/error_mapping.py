"""
Maps botocore's errors to this provider's ``SageMakerApiError``.

The error code decides: ``exceptions.HINTS`` says what each code means, what to do about it, and whether the
error is permanent or transient. This module adds the operation, the resource and AWS's own message.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.client import InvalidURL
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from polysync_airflow.exceptions import (
    ACCESS_DENIED,
    CURE_WITH_ROLE,
    HINTS,
    RESPONSE_TOO_LARGE,
    UNKNOWN_HINT,
    Hint,
    SageMakerApiError,
    hint_for,
)
from polysync_airflow.execution.models import pipeline_arns
from polysync_airflow.execution.texts import clean_line, clean_text

BotoError = ClientError | BotoCoreError | ResponseParserError
BOTO_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
_MAX_CODE: Final = 128


class ResponseTooLargeError(Exception):
    """Raised inside of botocore when a response has more bytes than a client accepts."""


def map_error(
    error: BotoError,
    operation: str,
    request: Mapping[str, Any],
    *,
    region: str | None,
    partition: str,
) -> SageMakerApiError:
    """
    Map an error of botocore to ``SageMakerApiError``.

    :param operation: the operation that was called, as AWS names it.
    :param partition: AWS partition, such as ``aws``.
    """
    if isinstance(error, ClientError):
        # A call can fail in an operation of the sign-in (AssumeRole). The error names that operation.
        operation = error.operation_name
        details = error.response.get("Error", {})
        code, message = details.get("Code", "Unknown"), details.get("Message", "")
    else:
        code, message = type(error).__name__, str(error)
    code, message = clean_line(str(code), _MAX_CODE), clean_text(str(message))
    if is_invalid_value(error):
        return invalid_value_error(operation)
    if isinstance(_cause(error), ResponseTooLargeError):
        return unusable_response_error(operation, RESPONSE_TOO_LARGE, str(_cause(error)))
    hint = hint_for(code, operation)
    fields = _hint_fields(operation, request, message, region or "of the session", partition)
    cure = hint.cure.format(**fields)
    if request.get("RoleArn") and hint is HINTS[ACCESS_DENIED]:
        cure += CURE_WITH_ROLE.format(role=request["RoleArn"])
    return SageMakerApiError(
        f"{operation} failed: {code}: {message}" + (f" -- What to do: {cure}" if cure else ""),
        error_code=code,
        operation=operation,
        permanent=hint.permanent,
        transient=is_transient(error, hint),
    )


def is_invalid_value(error: BaseException) -> bool:
    """Return whether botocore could not send a request because of a value that no header or URL can have."""
    return isinstance(_cause(error), (ValueError, InvalidURL))


def _cause(error: BaseException) -> Any:
    return error.kwargs.get("error") if isinstance(error, HTTPClientError) else None


def invalid_value_error(operation: str) -> SageMakerApiError:
    """Return the error for a request that could not be sent because of a value in it."""
    # Neither botocore's text nor its error is passed on: they quote the value, which may be a secret.
    return SageMakerApiError(
        f"{operation} failed: a value cannot be sent in a header or URL. -- What to do: check the session "
        "token, the keys and the endpoint_url of the connection for line breaks and other invisible "
        "characters.",
        error_code="InvalidHeaderValue",
        operation=operation,
        permanent=True,
    )


def invalid_response_error(operation: str, problem: str) -> SageMakerApiError:
    """Return the error for a response that AWS would not send. It counts as no response at all."""
    problem = f"the response is not one of AWS's: {clean_text(problem)}"
    return unusable_response_error(operation, "ResponseParserError", problem, transient=True)


def unusable_response_error(
    operation: str, code: str, problem: str, *, transient: bool = False
) -> SageMakerApiError:
    """Return the error for a response that the provider does not use."""
    return SageMakerApiError(
        f"{operation} failed: {problem}. -- What to do: check whether a proxy responds in place of AWS.",
        error_code=code,
        operation=operation,
        permanent=False,
        transient=transient,
    )


def is_transient(error: BotoError, hint: Hint) -> bool:
    """Return whether the same call may succeed if it is repeated within moments."""
    if hint is not UNKNOWN_HINT:
        # The meaning of a known code is more exact than the HTTP status that came with it.
        return hint.transient
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return bool(status == 429 or status >= 500)
    # The errors that botocore itself retries: no response, an incomplete one, or a proxy's page in its place.
    return isinstance(error, (BotoConnectionError, HTTPClientError, ResponseParserError))


def _hint_fields(
    operation: str, request: Mapping[str, Any], message: str, region: str, partition: str
) -> dict[str, str]:
    """Return the values of the placeholders that a hint's text may use."""
    execution, pipeline = request.get("PipelineExecutionArn"), request.get("PipelineName")
    package = request.get("ModelPackageName") or request.get("ModelPackageArn")
    package_group = request.get("ModelPackageGroupName")
    group, bucket, queue = request.get("logGroupName"), request.get("Bucket"), request.get("QueueUrl")
    identity = request.get("PolicySourceArn")
    service = "sts" if operation.startswith("AssumeRole") else "sagemaker"
    if execution:
        subject, resource = f"execution {execution}", execution
    elif pipeline:
        prefix = f"arn:{partition}:sagemaker:{region}:<account>:pipeline/"
        arns = [pipeline] if pipeline.startswith("arn:") else pipeline_arns(prefix, pipeline)
        subject, resource = f"pipeline {pipeline!r}", " and ".join(arns)
    elif package:
        subject, resource = f"model package {package}", package
    elif package_group:
        # Not that of the group: AWS is not clear about the resource of this action.
        subject, resource = f"model package group {package_group}", "*"
    elif group:
        service, subject = "logs", f"log group {group}"
        resource = f"arn:{partition}:logs:{region}:<account>:log-group:{group}:*"
    elif bucket:
        service, subject = "s3", f"object s3://{bucket}/{request['Key']}"
        resource = f"arn:{partition}:s3:::{bucket}/{request['Key']}"
    elif queue:
        service, subject = "sqs", f"queue {queue}"
        resource = f"arn:{partition}:sqs:{region}:" + ":".join(queue.split("/")[-2:])
        # The actions of IAM are those for one message.
        operation = operation.removesuffix("Batch")
    elif identity:
        service, subject, resource = "iam", f"identity {identity}", identity
    else:
        subject, resource = "such resource", "*"
    named = [p["Name"] for p in request.get("PipelineParameters", ()) if f"'{p['Name']}'" in message]
    return {
        "permission": f"{service}:{operation}",
        "resource": resource,
        "region": region,
        "subject": subject,
        "parameter": f" (parameter {', '.join(named)})" if named else "",
    }
