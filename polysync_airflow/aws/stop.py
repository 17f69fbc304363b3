"""Stops an execution: requests the stop, retries the request, and returns a sentence about the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, region_from_arn
from polysync_airflow.metrics import EXECUTIONS_STOPPED, count
from polysync_airflow.states import STATUS_STOPPING, is_stoppable


@dataclass(frozen=True)
class StopResult:
    """
    What became of a stop.

    :param text: it as a sentence.
    :param status: AWS's status of the execution now; None if the stop failed.
    :param error: why the execution may still be running although it should be stopped; None if it is not.
    """

    text: str
    status: str | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the execution may still be running although it should be stopped."""
        return self.error is not None


def request_stop(hook: Any, execution_arn: str, *, attempt: int | None = None) -> str | None:
    """
    Request the stop of an execution.

    :param attempt: the attempt of the execution, so that repeated requests are one stop; None for a stop of
        its own.
    :return: None if AWS accepted the request; else the AWS status that makes a stop unnecessary: the
        execution has ended or is stopping already.
    :raises SageMakerApiError: if AWS refuses the stop of a running execution.
    """
    try:
        hook.stop_pipeline_execution(execution_arn, attempt=attempt)
    except SageMakerApiError as error:
        # The status is more reliable than the text of the refusal, which AWS may change.
        current = hook.poll_pipeline_execution(execution_arn)
        if isinstance(current, ExecutionDescription) and not is_stoppable(current.status):
            return current.status
        if isinstance(current, PolysyncError) and current.transient:
            # The caller retries, and learns then whether the stop is still necessary.
            raise current from error
        raise
    count(EXECUTIONS_STOPPED, connection=hook.polysync_conn_id, region=region_from_arn(execution_arn))
    return None


def stop_execution(
    hook: Any, execution_arn: str, *, attempt: int, warn: Callable[[str], object]
) -> StopResult:
    """Stop an execution that its task no longer needs. Raises no ``PolysyncError``."""
    try:
        status = call_with_retry(
            lambda: request_stop(hook, execution_arn, attempt=attempt),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
    except PolysyncError as error:
        text = f"The execution may still be running: its stop failed: {error}"
        return StopResult(text, error=str(error))
    if status:
        text = f"No stop was needed: the execution has ended or is stopping (AWS status {status})."
        return StopResult(text, status)
    return StopResult("The execution was asked to stop.", STATUS_STOPPING)
