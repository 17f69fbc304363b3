"""Stops the execution of a record, even if its ARN is not known yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.aws.stop import StopResult, stop_execution
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import StoredExecution, region_from_arn

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook


def stop_recorded_execution(
    record: StoredExecution,
    hook_for_region: Callable[[str | None], PolysyncSageMakerHook],
    warn: Callable[[str], object],
) -> tuple[str, StopResult]:
    """
    Stop the execution that runs, or may run, because of a record. Raises no ``PolysyncError`` of AWS's.

    :param record: a proven record.
    :param hook_for_region: returns the hook for a region.
    :param warn: called with a message when a request is retried.
    :return: the ARN of the execution, or a text in its place, and what became of the stop.
    """
    try:
        arn = record.execution_arn or _arn_of_request(record, hook_for_region(record.region_name), warn)
        # The connection may have been deleted meanwhile.
        hook = hook_for_region(region_from_arn(arn))
    except PolysyncError as error:
        text = f"The execution may still be running: it cannot be stopped: {error}"
        return record.execution_arn or "with unknown ARN", StopResult(True, text)
    return arn, stop_execution(hook, arn, attempt=record.resumes, warn=warn)


def _arn_of_request(
    record: StoredExecution, hook: PolysyncSageMakerHook, warn: Callable[[str], object]
) -> str:
    # AWS returns the ARN if it knows the client token. If not, this starts an execution, which is then
    # stopped.
    return call_with_retry(
        partial(hook.start_pipeline_execution, record.request),
        until=clock.time() + STOP_TIMEOUT_SECONDS,
        warn=warn,
    )
