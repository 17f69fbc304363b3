"""Reads the present state of a task instance from Airflow, in a worker or in a triggerer."""

from __future__ import annotations

from typing import Any, Final

# Not a state of Airflow's.
DELETED: Final = "deleted"


def read_state(ti: Any) -> str | None:
    """
    Return the state of a task instance; ``DELETED`` if it was deleted, for example with its DAG run.

    The state is that of the latest try, whichever try asks.

    :param ti: the task instance.
    :raises Exception: Airflow's API server does not respond, or refuses the request.
    """
    # Imported here, because Airflow parses a DAG file every 30 seconds.
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states: dict[str, dict[str, str | None]] = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    # The key of a mapped task instance ends with its map index.
    return next(iter(states.get(ti.run_id, {}).values()), DELETED)
