"""
Maps botocore's errors to this provider's ``SageMakerApiError``.

The error code decides: ``exceptions.HINTS`` says what each code means, what to do about it, and whether the
error is permanent or transient. This module adds the operation, the resource and AWS's own message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from polysync_airflow.exceptions import CURE_WITH_ROLE, UNKNOWN_HINT, Hint, SageMakerApiError, hint_for

BotoError = ClientError | BotoCoreError | ResponseParserError
BOTO_ERRORS = (ClientError, BotoCoreError, ResponseParserError)


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

    :param error: the error that botocore raised.
    :param operation: the operation that was called, as AWS names it.
    :param request: the members of its request.
    :param region: AWS region.
    :param partition: AWS partition, such as ``aws``.
    """
    if isinstance(error, ClientError):
        # A call can fail in an operation of the sign-in (AssumeRole). The error names that operation.
        operation = error.operation_name
        details = error.response.get("Error", {})
        code, message = details.get("Code", "Unknown"), details.get("Message", "")
    else:
        code, message = type(error).__name__, str(error)
    hint = hint_for(code, operation)
    fields = _hint_fields(operation, request, message, region or "of the session", partition)
    cure = hint.cure.format(**fields)
    if request.get("RoleArn") and hint is hint_for("AccessDeniedException"):
        cure += CURE_WITH_ROLE.format(role=request["RoleArn"])
    return SageMakerApiError(
        f"{operation} failed: {code}: {message}" + (f" -- What to do: {cure}" if cure else ""),
        error_code=code,
        operation=operation,
        permanent=hint.permanent,
        transient=is_transient(error, hint),
    )


def is_transient(error: BotoError, hint: Hint) -> bool:
    """
    Return whether the same call may succeed if it is repeated within moments.

    :param error: the error that botocore raised.
    :param hint: the hint for its error code.
    """
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
    if execution:
        subject, resource = f"execution {execution}", execution
    elif pipeline:
        # IAM policies match the pipeline name in lower case, as AWS writes it into ARNs.
        prefix = f"arn:{partition}:sagemaker:{region}:<account>"
        arn = pipeline if pipeline.startswith("arn:") else f"{prefix}:pipeline/{pipeline.lower()}"
        subject, resource = f"pipeline {pipeline!r}", arn
    else:
        subject, resource = "such resource", "*"
    named = [p["Name"] for p in request.get("PipelineParameters", ()) if f"'{p['Name']}'" in message]
    return {
        "permission": f"{'sts' if operation.startswith('AssumeRole') else 'sagemaker'}:{operation}",
        "resource": resource,
        "region": region,
        "subject": subject,
        "parameter": f" (parameter {', '.join(named)})" if named else "",
    }
