"""Owns what is done for an execution whose task's process died and will not be followed by another try."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.states import PolysyncState

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def stop_orphaned_execution(context: Context) -> None:
    """
    Stop an execution that nobody waits for any more: an ``on_failure_callback`` of every Start.

    Where a task's process dies (out of memory, a lost host) Airflow has this run by its DAG processor, once
    no try will follow. After an ordinary failure there is nothing left to do.

    :param context: the task's context.
    """
    ti = context["ti"]
    task: Any = context["task"]
    run: Mapping[str, Any] = ti.xcom_pull(task_ids=ti.task_id, key="run", map_indexes=ti.map_index) or {}
    if task.released or not task.stop_on_kill or run.get("state") != PolysyncState.RUNNING.value:
        return
    # They bring boto3, and a DAG file is parsed every 30 seconds.
    from polysync_airflow.aws.stop import stop_execution
    from polysync_airflow.hooks import PolysyncSageMakerHook

    arn = run["execution_arn"]
    # Nobody has rendered the task's templates here.
    conn_id = task.render_template(task.polysync_conn_id, context)
    hook = PolysyncSageMakerHook(conn_id, region_from_arn(arn))
    told = stop_execution(hook, arn, attempt=run["resumes"], warn=log.warning)
    log.warning("The process that waited for execution %s has died. %s", arn, told)
