"""
Retries calls to AWS that fail with a transient error: throttling, a conflict, HTTP 5xx, a lost connection.

These retries come on top of botocore's own, which end after seconds. ``retrying.py`` at the top of the
package is something else: it decides about Airflow's retries of the whole task.

The stop of an execution, which a task no longer needs, is such a call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from polysync_airflow.exceptions import CONFLICT, PolysyncError, SageMakerApiError, has_code
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, region_from_arn
from polysync_airflow.metrics import EXECUTIONS_STOPPED, count
from polysync_airflow.states import STATUS_STOPPING, is_stoppable

Result = TypeVar("Result")

MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0
# AWS reports a conflict while an execution moves between two steps. A conflict that lasts has another cause.
CONFLICT_TIMEOUT_SECONDS: Final = 60.0
STEP_LISTING_TIMEOUT_SECONDS: Final = 60.0
# Longer than the others: an execution that is not stopped goes on costing money.
STOP_TIMEOUT_SECONDS: Final = 600.0


def call_with_retry(
    call: Callable[[], Result],
    *,
    until: float,
    warn: Callable[[str], object],
    sleep: Callable[[float], None] | None = None,
) -> Result:
    """
    Make a call, and repeat it with exponential backoff while it fails with a transient error.

    :param call: the call. It must be safe to repeat, for example because it sends a client request token.
    :param until: when to give up, in seconds since the epoch.
    :param warn: called with a message once for each new error.
    :param sleep: waits for a number of seconds between two attempts. Default: ``clock.sleep``.
    :raises PolysyncError: an error that is not transient, or the last error when the time is up.
    """
    conflict_until = min(until, clock.time() + CONFLICT_TIMEOUT_SECONDS)
    last_message = ""

    def give_up(state: RetryCallState) -> bool:
        limit = conflict_until if has_code(_error_of(state), CONFLICT) else until
        return clock.time() + state.upcoming_sleep > limit

    def warn_once(state: RetryCallState) -> None:
        nonlocal last_message
        message = str(_error_of(state))
        if message != last_message:
            last_message = message
            warn(f"Transient error, retrying: {message}")

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, PolysyncError) and error.transient),
        wait=wait_exponential(multiplier=MIN_BACKOFF_SECONDS, max=MAX_BACKOFF_SECONDS),
        stop=give_up,
        before_sleep=warn_once,
        sleep=sleep or clock.sleep,
        reraise=True,
    )
    return retrying(call)


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


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
