"""What a task would start, to compare a record without a signature with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import PIPELINE_ARN_PATTERN, account_from_arn
from polysync_airflow.records.proof import OwnTarget

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

DESCRIBE_TIMEOUT_SECONDS: Final = 60.0


def own_target(
    hook: PolysyncSageMakerHook,
    pipeline_name: str,
    execution_role_arn: str | None,
    warn: Callable[[str], object],
) -> OwnTarget:
    """
    Return what a task would start.

    :param hook: the task's hook, for the task's region.
    :param pipeline_name: the task's pipeline: a name, or the ARN of a pipeline of any account.
    :param execution_role_arn: the task's argument.
    :param warn: called with a message when a call to AWS is retried.
    :raises PolysyncError: AWS does not say in which account the pipeline is.
    """
    role = hook.credentials.execution_role_arn if hook.credentials else None
    return OwnTarget(
        pipeline_name=str(pipeline_name),
        region_name=hook.region_name,
        account_id=_account_of(hook, str(pipeline_name), warn),
        execution_role_arn=execution_role_arn or role,
    )


def _account_of(hook: PolysyncSageMakerHook, pipeline_name: str, warn: Callable[[str], object]) -> str:
    arn = pipeline_name
    if not re.match(PIPELINE_ARN_PATTERN, arn):
        # DescribePipeline, because STS may not be reachable from a private network.
        arn = call_with_retry(
            partial(hook.describe_pipeline, pipeline_name),
            until=clock.time() + DESCRIBE_TIMEOUT_SECONDS,
            warn=warn,
        ).arn
    account = account_from_arn(arn)
    return account if account.isdigit() else str(hook.get_caller_identity()["Account"])
