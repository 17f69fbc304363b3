"""Owns asking for a stop: until AWS takes it or it is moot, and the sentence that tells what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.states import is_stoppable


def request_stop(
    hook: PolysyncSageMakerHook, execution_arn: str, *, attempt: int | None = None
) -> str | None:
    """
    Ask for an execution to be stopped.

    :param hook: the connection to AWS.
    :param execution_arn: the execution.
    :param attempt: which attempt of it, so that however many ask, it is one stop; None for a stop of its own.
    :return: None if it was asked; the AWS status that makes it moot if it has ended, or is stopping, already.
    :raises SageMakerApiError: if AWS refuses though it runs.
    """
    try:
        hook.stop_pipeline_execution(execution_arn, attempt=attempt)
    except SageMakerApiError as error:
        # A look tells more than the refusal's text, which AWS may reword.
        seen = hook.poll_pipeline_execution(execution_arn)
        if isinstance(seen, ExecutionDescription) and not is_stoppable(seen.status):
            return seen.status
        if isinstance(seen, PolysyncError) and seen.transient:
            # Whether the stop is moot will be known in a moment.
            raise seen from error
        raise
    return None


def stop_execution(
    hook: PolysyncSageMakerHook, execution_arn: str, *, attempt: int, warn: Callable[[str], object]
) -> str:
    """
    Stop an execution that its task is done with, and tell what came of it. Raises nothing of ours.

    :param hook: the connection to AWS.
    :param execution_arn: the execution.
    :param attempt: which attempt of it.
    :param warn: told why it takes long.
    """
    try:
        moot = call_with_retry(
            lambda: request_stop(hook, execution_arn, attempt=attempt),
            until=time.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
    except PolysyncError as error:
        return f"The execution may still be running, its stop was refused: {error}"
    if moot:
        return f"No stop was needed: it had ended meanwhile, or was stopping (AWS status {moot})."
    return "The execution was asked to stop."
