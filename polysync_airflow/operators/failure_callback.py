"""The failure callback of the Start operator: it stops the execution of a task whose process has died."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.operators.xcoms import pull_run
from polysync_airflow.states import PolysyncState

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def stop_orphaned_execution(context: Context) -> None:
    """
    Stop an execution that no task waits for any more: an ``on_failure_callback`` of every Start task.

    When the process of a task has died (out of memory, lost host) and no retry follows, Airflow's DAG
    processor runs this callback. After an ordinary failure the try itself has dealt with the execution, and
    the callback does nothing.

    :param context: the task's context.
    """
    task: Any = context["task"]
    if task.execution_handled or not task.stop_on_kill:
        return
    run = pull_run(context)
    if run is None or run.state != PolysyncState.RUNNING.value:
        return
    # These modules import boto3, and Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.aws.stop import stop_execution
    from polysync_airflow.hooks import PolysyncSageMakerHook

    arn = run.execution_arn
    # The DAG processor does not render the task's templates.
    conn_id = task.render_template(task.polysync_conn_id, context)
    hook = PolysyncSageMakerHook(conn_id, region_from_arn(arn))
    result = stop_execution(hook, arn, attempt=run.resumes, warn=log.warning)
    log.warning("Execution %s: the process of its task has died. %s", arn, result)
