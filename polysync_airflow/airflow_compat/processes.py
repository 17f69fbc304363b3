"""Which of Airflow's processes this one is."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

# Only these processes have imported these modules, however they were started.
_SCHEDULER: Final = "airflow.jobs.scheduler_job_runner"
_API_SERVER: Final = "airflow.api_fastapi.main"


def is_told_of_ends() -> bool:
    """
    Return whether Airflow tells the listeners of this process how DAG runs and tasks
    end, with a session: in the scheduler and in the API server of Airflow 3.

    In no other process may there be a listener: where DAG files are parsed, Airflow
    refuses tasks with ``end_from_trigger=True`` if there is one (``bag_dag`` in
    airflow/dag_processing/dagbag.py).
    """
    is_server = _SCHEDULER in sys.modules or _API_SERVER in sys.modules
    return CAPABILITIES.triggerer_callbacks and is_server


def remove_in_tasks(listener: Any) -> None:
    """
    Remove a listener from each process that the scheduler forks: with LocalExecutor,
    tasks run there, and parse their DAG file.
    """
    if _API_SERVER in sys.modules:
        # It forks only itself.
        return

    def remove() -> None:
        from airflow.listeners.listener import get_listener_manager

        plugins = get_listener_manager().pm
        if plugins.is_registered(listener):
            plugins.unregister(listener)

    os.register_at_fork(after_in_child=remove)
