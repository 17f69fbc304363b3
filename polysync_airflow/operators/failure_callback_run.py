"""What the failure callback of the Start operator does. See ``failure_callback.py``."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, cast

from polysync_airflow.airflow_compat import sdk, teams
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.job_types import readable_name
from polysync_airflow.execution.lifecycle import ending, instructions
from polysync_airflow.hooks import PolysyncSageMakerHook, stops
from polysync_airflow.records.keys import RECORD_KEY, variable_key
from polysync_airflow.records.store import RecordStore

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.operators.start import PolysyncStartPipelineOperator

log = logging.getLogger(__name__)


def stop_unless_handled(context: Context) -> None:
    """
    Stop the execution of a task whose process has died.

    :param context: as Airflow passes it to the callback, on a worker or in the DAG
        processor.
    """
    was_mapped = sdk.is_mapped(context["task"])
    if was_mapped:
        # Only in the DAG processor. Airflow replaces the task in the context by that of
        # this map index, with rendered templates.
        context["task"].render_template_fields(context)
    task = cast("PolysyncStartPipelineOperator", context["task"])
    # None unless this process has executed the task, whose templates are rendered then.
    run = task.current_run
    if run and run.try_runner.is_handled:
        return
    ti = context["ti"]
    store = RecordStore.outside(ti)
    record = store.read()
    # Airflow 3.2 runs this callback for each lost process. Its retry reattaches to the
    # execution.
    retry_follows = (
        not CAPABILITIES.failure_callback_is_final and ti.try_number <= ti.max_tries
    )
    if record is None:
        if not retry_follows and run is None:
            why = _why_no_record(task, variable_key(instructions.TaskKey.of(ti)), store)
            log.warning("The task has failed. %s", why)
        return
    owner = ending.owner_of_dead_process(
        record, ti.try_number, retry_follows=retry_follows
    )
    try_end = ending.leave(
        record, ti.try_number, stop_on_kill=task.options.stop_on_kill
    )
    if try_end.owned_by(owner).action is not ending.EndAction.STOP:
        return
    connection = task.polysync_conn_id
    if not was_mapped and run is None:
        # The DAG processor does not render templates. Rendered a second time, a text
        # from outside could read connections and variables.
        connection = task.render_template(connection, context)
    result = stops.stop_recorded_execution(
        record, partial(PolysyncSageMakerHook, connection), log.warning
    )
    log.warning(
        "The process of the task has died. %s Execution: %s",
        result.text,
        record.execution_arn or "its ARN is not known",
    )


def _why_no_record(
    task: PolysyncStartPipelineOperator, key: str, store: RecordStore
) -> str:
    # The end of a default name follows from the deployment.
    name = task.pipeline_name or f"{readable_name(task.dag_id, task.task_id)}-*"
    if store.unproven and store.provenance.is_of_other_deployment(None):
        return ending.OF_OTHER_DEPLOYMENT
    if teams.is_multi_team() and teams.is_hidden_variable(key):
        return (
            "An execution of an earlier try may still be running: its record is the"
            f" Variable {key!r} of a team, which Airflow hides from the DAG processor,"
            f" and the copy, the XCom {RECORD_KEY!r}, does not exist, because the last"
            " try has ended before it could write it. Look for the executions of the"
            f" pipeline {name!r} in the SageMaker console, and stop the"
            " one that no task waits for."
        )
    return (
        f"No execution is stopped: there is no valid record, the Variable {key!r}."
        " Either none was started, or somebody has deleted or edited the record. If you"
        f" are not sure, look for the executions of the pipeline {name!r}"
        " in the SageMaker console."
    )
