"""The XComs of the Start operator, for users, the SageMaker Console button and downstream tasks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.models import ExecutionEvent, ExecutionRecord, FailedStep, StoredExecution
from polysync_airflow.execution.outcome import build_record
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, PolysyncPipelineExecutionLink, console_url
from polysync_airflow.states import PolysyncState

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def push_started(context: Context, record: StoredExecution) -> None:
    """
    Push ``execution_arn``, ``console_url``, ``state`` and ``run`` as soon as the execution exists.

    :param context: the task's context.
    :param record: the execution, with the request that started it. An earlier try may have sent the request.
    """
    ti, request = context["ti"], record.request
    ti.xcom_push("execution_arn", record.arn)
    url = console_url(record.arn, request.pipeline_name)
    if url:
        ti.xcom_push(CONSOLE_URL_XCOM_KEY, url)
        if CAPABILITIES.links_are_xcoms:
            # Airflow itself stores extra links only when the worker finishes the task. That is too late for a
            # task that waits on the worker.
            ti.xcom_push(PolysyncPipelineExecutionLink().xcom_key, url)
    _push_run(
        context,
        ExecutionRecord(
            execution_arn=record.arn,
            pipeline_name=request.pipeline_name,
            state=PolysyncState.RUNNING.value,
            parameters=request.pipeline_parameters,
            resumes=record.resumes,
        ),
    )


def push_ended(context: Context, end: ExecutionEvent, failed_steps: Sequence[FailedStep]) -> None:
    """
    Push ``state`` and ``run`` again when the wait has ended.

    :param context: the task's context.
    :param end: how the wait ended.
    :param failed_steps: the steps that failed.
    """
    # The values that were sent. The templates may render to other values now, for example if they use the
    # current time.
    started = pull_run(context)
    run = build_record(
        end,
        pipeline_name=(started and started.pipeline_name) or end.pipeline_name or "",
        parameters=started.parameters if started else {},
        failed_steps=failed_steps,
    )
    _push_run(context, run)


def pull_run(context: Context) -> ExecutionRecord | None:
    """
    Return this task's XCom ``run``; None if there is none, or if somebody has changed it to something else.

    :param context: the task's context.
    """
    ti = context["ti"]
    value = ti.xcom_pull(task_ids=ti.task_id, key="run", map_indexes=ti.map_index)
    try:
        return None if value is None else ExecutionRecord.model_validate(value)
    except ValidationError as error:
        problems = describe_validation_error(error)
        log.warning("XCom 'run' is ignored, because it is not the record of an execution: %s", problems)
        return None


def _push_run(context: Context, run: ExecutionRecord) -> None:
    context["ti"].xcom_push("state", run.state)
    context["ti"].xcom_push("run", run.model_dump(mode="json"))
