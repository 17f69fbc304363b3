"""Owns how an error of AWS becomes ours: its code, its words, the cure, and whether it lasts or passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError
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
    Make our error of botocore's.

    :param error: what botocore raised.
    :param operation: what was called, as AWS names it.
    :param request: its request's members.
    :param region: AWS region.
    :param partition: AWS partition.
    """
    if isinstance(error, ClientError):
        # Signing in may need calls of its own (AssumeRole): the error knows which one it was.
        operation = error.operation_name
        details = error.response.get("Error", {})
        code, said = details.get("Code", "Unknown"), details.get("Message", "")
    else:
        code, said = type(error).__name__, str(error)
    hint = hint_for(code, operation)
    cure = hint.cure.format(**_circumstances(operation, request, said, region or "of the session", partition))
    if request.get("RoleArn") and hint is hint_for("AccessDeniedException"):
        cure += CURE_WITH_ROLE.format(role=request["RoleArn"])
    return SageMakerApiError(
        f"{operation} failed: {code}: {said}" + (f" -- What to do: {cure}" if cure else ""),
        error_code=code,
        operation=operation,
        permanent=hint.permanent,
        transient=is_transient(error, hint),
    )


def is_transient(error: BotoError, hint: Hint) -> bool:
    """
    Tell whether the very same call may well succeed in a moment.

    :param error: what botocore raised.
    :param hint: what its code means.
    """
    if hint is not UNKNOWN_HINT:
        # A code that we know tells more than the status that it came with.
        return hint.transient
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return bool(status == 429 or status >= 500)
    # What botocore itself repeats, no answer or not a whole one, and a proxy's page instead of an answer.
    return isinstance(error, (NoConnectionError, HTTPClientError, ResponseParserError))


def _circumstances(
    operation: str, request: Mapping[str, Any], said: str, region: str, partition: str
) -> dict[str, str]:
    execution, pipeline = request.get("PipelineExecutionArn"), request.get("PipelineName")
    if execution:
        subject, resource = f"execution {execution}", execution
    elif pipeline:
        # IAM sees the name in lower case, as AWS writes it into ARNs.
        prefix = f"arn:{partition}:sagemaker:{region}:<account>"
        arn = pipeline if pipeline.startswith("arn:") else f"{prefix}:pipeline/{pipeline.lower()}"
        subject, resource = f"pipeline {pipeline!r}", arn
    else:
        subject, resource = "such resource", "*"
    named = [p["Name"] for p in request.get("PipelineParameters", ()) if f"'{p['Name']}'" in said]
    return {
        "permission": f"{'sts' if operation.startswith('AssumeRole') else 'sagemaker'}:{operation}",
        "resource": resource,
        "region": region,
        "subject": subject,
        "parameter": f" (parameter {', '.join(named)})" if named else "",
    }
