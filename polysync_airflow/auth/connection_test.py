"""Owns the test of a connection: who one is there, and which of the provider's actions one may use."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from polysync_airflow.auth.iam_policies import LISTING, OPTIONAL, REQUIRED, missing_statement
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError

GRANTED, DENIED, UNTOLD = "granted", "denied", "could not be told"
# AWS looks at permissions before it looks for the resource, so these answers mean that the call was allowed.
_ALLOWED_CODES: Final = ("ResourceNotFound", "ValidationException")
_DENIED_CODES: Final = ("AccessDeniedException", "AccessDenied")


class Connected(Protocol):
    """What is tested: somebody who can call AWS. The hook is."""

    @property
    def way(self) -> str:
        """How it signs in."""

    @property
    def region_name(self) -> str | None:
        """AWS region."""

    @property
    def pipelines_arn(self) -> str:
        """The pattern of all pipelines of account and region."""

    @property
    def credentials_expire_at(self) -> datetime | None:
        """When the credentials in use expire."""

    def get_caller_identity(self) -> dict[str, Any]:
        """Ask STS who signs in."""

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Call an operation of SageMaker."""


def describe_identity(hook: Connected) -> str:
    """
    Tell who signs in: ARN, account, region, way, expiry.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html needs no permission.

    :param hook: the connection.
    :raises PolysyncError: if it cannot sign in.
    """
    identity = hook.get_caller_identity()
    expiry = hook.credentials_expire_at
    until = f"until {expiry:%Y-%m-%d %H:%M:%SZ}, renewed before" if expiry else "without expiry"
    who = f"{identity['Arn']} (account {identity['Account']})"
    return f"Signed in as {who} in {hook.region_name} by {hook.way}, {until}."


def check_permissions(hook: Connected) -> Mapping[str, str]:
    """
    Tell for each operation whether it is granted, by calls that can change nothing.

    Names and ARNs are ones that cannot exist, so nothing is started, stopped, or seen.

    :param hook: the connection.
    :return: ``granted``, ``denied`` or ``could not be told: why``, by operation.
    """
    return {operation: _probe(call) for operation, call in _calls(hook).items()}


def report(hook: Connected) -> tuple[bool, str]:
    """
    Test a connection.

    :param hook: the connection.
    :return: whether all that is required is granted, and the report.
    """
    try:
        lines = [describe_identity(hook)]
    except PolysyncError as error:
        return False, str(error)
    found = check_permissions(hook)
    lines += [f"{operation}: {result}" for operation, result in found.items()]
    denied = [operation for operation, result in found.items() if result == DENIED]
    if denied:
        lines.append(
            "Denied for a pipeline that does not exist; a policy that names pipelines denies this too. To "
            f"allow it for all: {json.dumps(missing_statement(denied, hook.pipelines_arn))}"
        )
    return not any(found[operation] == DENIED for operation in (*LISTING, *REQUIRED)), " -- ".join(lines)


def _calls(hook: Connected) -> Mapping[str, Callable[[], Any]]:
    nobody = f"polysync-permission-probe-{uuid.uuid4().hex[:12]}"
    execution = f"{hook.pipelines_arn.removesuffix('*')}{nobody}/execution/000000000000"
    token = f"{nobody}-{'0' * 32}"[:128]
    calls: dict[str, Mapping[str, Any]] = {
        "ListPipelines": {"MaxResults": 1},
        "DescribePipeline": {"PipelineName": nobody},
        "StartPipelineExecution": {"PipelineName": nobody, "ClientRequestToken": token},
        "DescribePipelineExecution": {"PipelineExecutionArn": execution},
        "StopPipelineExecution": {"PipelineExecutionArn": execution, "ClientRequestToken": token},
        "ListPipelineExecutionSteps": {"PipelineExecutionArn": execution},
        "ListPipelineExecutions": {"PipelineName": nobody},
        "RetryPipelineExecution": {"PipelineExecutionArn": execution, "ClientRequestToken": token},
    }
    return {name: partial(hook.call, name, **calls[name]) for name in (*LISTING, *REQUIRED, *OPTIONAL)}


def _probe(call: Callable[[], Any]) -> str:
    try:
        call()
    except SageMakerApiError as error:
        if error.error_code in _DENIED_CODES:
            return DENIED
        if error.error_code in _ALLOWED_CODES:
            return GRANTED
        return f"{UNTOLD}: {error.error_code}"
    except PolysyncError as error:
        return f"{UNTOLD}: {error}"
    return GRANTED
