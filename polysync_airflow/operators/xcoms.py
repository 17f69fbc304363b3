"""The XComs of the Start operator, for users, the SageMaker Console button and downstream tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.models import ExecutionEvent, ExecutionRecord, FailedStep, StoredExecution
from polysync_airflow.execution.outcome import build_record
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, PolysyncPipelineExecutionLink, console_url
from polysync_airflow.states import PolysyncState

if TYPE_CHECKING:
    from airflow.sdk import Context


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
    ti = context["ti"]
    # The values that were sent. The templates may render to other values now, for example if they use the
    # current time.
    started: Mapping[str, Any] = ti.xcom_pull(task_ids=ti.task_id, key="run", map_indexes=ti.map_index) or {}
    run = build_record(
        end,
        pipeline_name=started.get("pipeline_name") or end.pipeline_name or "",
        parameters=started.get("parameters", {}),
        failed_steps=failed_steps,
    )
    _push_run(context, run)


def _push_run(context: Context, run: ExecutionRecord) -> None:
    context["ti"].xcom_push("state", run.state)
    context["ti"].xcom_push("run", run.model_dump(mode="json"))
