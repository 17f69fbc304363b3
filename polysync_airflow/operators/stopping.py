"""Stops the execution of a record, even if its ARN is not known yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.aws.stop import StopResult, stop_execution
from polysync_airflow.exceptions import PolysyncError
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
    arn = record.execution_arn
    if arn is None:
        try:
            # AWS returns the ARN if it knows the client token. If not, this starts an execution, which is
            # then stopped.
            arn = call_with_retry(
                partial(hook_for_region(record.region_name).start_pipeline_execution, record.request),
                until=time.time() + STOP_TIMEOUT_SECONDS,
                warn=warn,
            )
        except PolysyncError as error:
            name = record.request.pipeline_name
            text = f"An execution of the pipeline {name} may be running, but its ARN is not known: {error}"
            return "with unknown ARN", StopResult(True, text)
    hook = hook_for_region(region_from_arn(arn))
    return arn, stop_execution(hook, arn, attempt=record.resumes, warn=warn)
