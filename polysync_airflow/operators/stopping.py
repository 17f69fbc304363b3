"""Stops the execution of a record, even if its ARN is not known yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.aws.stop import stop_execution
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.ending import Leaving
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.record import StoredExecution

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook


def stop_recorded_execution(
    leaving: Leaving,
    record: StoredExecution,
    hook_for_region: Callable[[str | None], PolysyncSageMakerHook],
    warn: Callable[[str], object],
) -> Leaving:
    """
    Stop the execution that runs, or may run, because of a record. Raises no ``PolysyncError`` of AWS's.

    :param warn: called with a message when a request is retried.
    :return: what is left to do, and the result as a sentence.
    """
    try:
        # AWS returns the ARN if it knows the client token. If not, this starts an execution, which is then
        # stopped.
        arn = record.execution_arn or call_with_retry(
            lambda: hook_for_region(record.region_name).start_pipeline_execution(record.request),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
        # The connection may have been deleted meanwhile.
        hook = hook_for_region(region_from_arn(arn))
    except PolysyncError as error:
        text = f"The execution may still be running: it cannot be stopped: {error}"
        return leaving.stop_requested(text, failed=True)
    result = stop_execution(hook, arn, attempt=record.resumes, warn=warn)
    text = result.text if record.execution_arn else f"{result.text} Execution: {arn}"
    return leaving.stop_requested(text, failed=result.failed)
