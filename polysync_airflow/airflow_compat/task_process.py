"""Ends the process of a task that has lost its supervisor, where Airflow lets it still report a result."""

from __future__ import annotations

import os
from collections.abc import Callable

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


def parent_process() -> int:
    """Return the id of the process that supervises this one."""
    return os.getppid()


def exit_if_orphaned(parent: int, warn: Callable[[str], object]) -> None:
    """
    End this process if its supervisor has died, and do not let it report a result. Only on Airflow 2.

    There, the process of a task writes the task's state into the database. Airflow counts a task without a
    supervisor as dead and starts its next try, so what this process reports would end that try. From Airflow
    3 on, a process without a supervisor reaches nothing.

    :param parent: the result of ``parent_process`` from before.
    :param warn: called with a message before the process ends.
    """
    if CAPABILITIES.task_sdk or parent_process() == parent:
        return
    warn(
        "The process that supervised this task has died, and Airflow starts the task's next try. This "
        "process ends without a result; the execution goes on."
    )
    # An exception would be reported as the result.
    os._exit(1)
