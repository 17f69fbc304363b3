"""Owns what a Start publishes of its execution: XComs that people, buttons and later tasks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.models import ExecutionEvent, ExecutionRecord, FailedStep, StoredExecution
from polysync_airflow.execution.outcome import build_record
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, PolysyncPipelineExecutionLink, console_url
from polysync_airflow.states import PolysyncState

if TYPE_CHECKING:
    from airflow.sdk import Context


def push_started(context: Context, stored: StoredExecution) -> None:
    """
    Push ``execution_arn``, ``console_url``, ``state`` and ``run`` the moment the execution exists.

    :param context: the task's context.
    :param stored: the execution, with the request that was sent for it, maybe by an earlier try.
    """
    ti, request = context["ti"], stored.request
    ti.xcom_push("execution_arn", stored.arn)
    url = console_url(stored.arn, request.pipeline_name)
    if url:
        ti.xcom_push(CONSOLE_URL_XCOM_KEY, url)
        # Airflow stores links only when a worker's session ends: too late for a synchronous wait.
        ti.xcom_push(PolysyncPipelineExecutionLink().xcom_key, url)
    _push(
        context,
        ExecutionRecord(
            execution_arn=stored.arn,
            pipeline_name=request.pipeline_name,
            state=PolysyncState.RUNNING.value,
            parameters=request.pipeline_parameters,
            resumes=stored.resumes,
        ),
    )


def push_ended(context: Context, end: ExecutionEvent, failed_steps: Sequence[FailedStep]) -> None:
    """
    Push ``state`` and ``run`` anew at the end.

    :param context: the task's context.
    :param end: how the wait ended.
    :param failed_steps: the steps that failed.
    """
    ti = context["ti"]
    # What was sent, not what the templates would give now: they may look at the clock.
    sent: Mapping[str, Any] = ti.xcom_pull(task_ids=ti.task_id, key="run", map_indexes=ti.map_index) or {}
    record = build_record(
        end,
        pipeline_name=sent.get("pipeline_name") or end.pipeline_name or "",
        parameters=sent.get("parameters", {}),
        failed_steps=failed_steps,
    )
    _push(context, record)


def _push(context: Context, record: ExecutionRecord) -> None:
    context["ti"].xcom_push("state", record.state)
    context["ti"].xcom_push("run", record.model_dump(mode="json"))
