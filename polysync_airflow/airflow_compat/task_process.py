"""
Ends the process of a task that must not report a result any more, where Airflow would accept it.

On Airflow 2, the process of a task writes the task's state into the database, whichever try is running. From
Airflow 3 on, Airflow refuses what the process of an earlier try reports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.task_instances import newest_try_number


def parent_process() -> int:
    """Return the id of the process that supervises this one."""
    return os.getppid()


def exit_if_orphaned(parent: int, warn: Callable[[str], object]) -> None:
    """
    End this process if its supervisor has died, and do not let it report a result. Only on Airflow 2.

    Airflow counts a task without a supervisor as dead and starts its next try, so what this process reports
    would end that try. From Airflow 3 on, a process without a supervisor reaches nothing.

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


def exit_if_replaced(ti: Any, warn: Callable[[str], object]) -> None:
    """
    End this process if a later try of its task has begun, in place of failing that try. Only on Airflow 2.

    That happens if a process goes on after it was frozen for so long that Airflow has started the next try.

    :param ti: the task instance. In ``dag.test()`` and in tests, the process is not that of a task.
    :param warn: called with a message before the process ends.
    """
    if CAPABILITIES.task_sdk or not getattr(ti, "raw", False):
        return
    try:
        newest = newest_try_number(ti)
    except Exception as error:
        warn(f"Whether a later try of this task has begun cannot be read from Airflow: {error}")
        return
    if newest is not None and newest > ti.try_number:
        warn(
            f"Try {newest} of this task has begun. The process of try {ti.try_number} ends without a result."
        )
        os._exit(1)
