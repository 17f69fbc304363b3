"""
The failure callback of the Start operator: it stops the execution of a task whose
process has died.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import is_mapped

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.records.store import RecordStore

log = logging.getLogger(__name__)


def stop_orphaned_execution(context: Context) -> None:
    """
    Stop an execution that no task waits for any more: an ``on_failure_callback`` of
    every Start task.

    When the process of a task has died (out of memory, lost host) and no retry follows,
    Airflow's DAG processor runs this callback. After an ordinary failure the try itself
    has dealt with the execution, and the callback does nothing.

    The execution of a later try, which the record then names, is not stopped.
    """
    was_mapped = is_mapped(context["task"])
    if was_mapped:
        # Only in the DAG processor. Airflow replaces the task in the context by that of
        # this map index, with rendered templates.
        context["task"].render_template_fields(context)
    task: Any = context["task"]
    if task.try_runner.is_handled:
        return
    # Imported here, because Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.lifecycle.ending import (
        EndAction,
        leave,
        owner_of_dead_process,
    )
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.hooks.stops import stop_recorded_execution
    from polysync_airflow.records.store import RecordStore

    ti = context["ti"]
    store = RecordStore.outside(ti)
    record = store.read()
    # Airflow 3.2 runs this callback for each lost process. Its retry reattaches to the
    # execution.
    retry_follows = (
        not CAPABILITIES.failure_callback_is_final and ti.try_number <= ti.max_tries
    )
    if record is None:
        if not retry_follows and not task.try_runner.is_executed:
            log.warning("The task has failed. %s", _why_no_record(task, ti, store))
        return
    owner = owner_of_dead_process(record, ti.try_number, retry_follows=retry_follows)
    try_end = leave(record, ti.try_number, stop_on_kill=task.options.stop_on_kill)
    if try_end.owned_by(owner).action is not EndAction.STOP:
        return
    connection = task.polysync_conn_id
    if not was_mapped and not task.try_runner.is_executed:
        # The DAG processor does not render templates. Rendered a second time, a text
        # from outside could read connections and variables.
        connection = task.render_template(connection, context)
    result = stop_recorded_execution(
        record, partial(PolysyncSageMakerHook, connection), log.warning
    )
    log.warning(
        "The process of the task has died. %s Execution: %s",
        result.text,
        record.execution_arn or "its ARN is not known",
    )


def _why_no_record(task: Any, ti: Any, store: RecordStore) -> str:
    from polysync_airflow.airflow_compat.teams import is_hidden_variable, is_multi_team
    from polysync_airflow.execution.lifecycle.ending import OF_OTHER_DEPLOYMENT
    from polysync_airflow.execution.lifecycle.instructions import TaskKey
    from polysync_airflow.records.keys import RECORD_KEY, variable_key

    if store.unproven and store.provenance.is_of_other_deployment(None):
        return OF_OTHER_DEPLOYMENT
    key = variable_key(TaskKey.of(ti))
    if is_multi_team() and is_hidden_variable(key):
        return (
            "An execution of an earlier try may still be running: its record is the"
            f" Variable {key!r} of a team, which Airflow hides from the DAG processor,"
            f" and the copy, the XCom {RECORD_KEY!r}, does not exist, because the last"
            " try has ended before it could write it. Look for the executions of the"
            f" pipeline {task.pipeline_name!r} in the SageMaker console, and stop the"
            " one that no task waits for."
        )
    return (
        f"No execution is stopped: there is no valid record, the Variable {key!r}."
        " Either none was started, or somebody has deleted or edited the record. If you"
        f" are not sure, look for the executions of the pipeline {task.pipeline_name!r}"
        " in the SageMaker console."
    )


def with_own_callback(callbacks: Any) -> list[Any]:
    """Return the failure callbacks of a task together with that of the provider."""
    if not callbacks:
        return [stop_orphaned_execution]
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if stop_orphaned_execution in callbacks:
        return list(callbacks)
    return [*callbacks, stop_orphaned_execution]
