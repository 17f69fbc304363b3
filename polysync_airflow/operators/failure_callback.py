"""
The failure callback of the Start operator: it stops the execution of a task whose
process has died.

``failure_callback_run.py`` runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    Callback = Callable[[Context], None]


def stop_orphaned_execution(context: Context) -> None:
    """
    Stop an execution that no task waits for any more: an ``on_failure_callback`` of
    every Start task.

    When the process of a task has died (out of memory, lost host) and no retry follows,
    Airflow's DAG processor runs this callback. After an ordinary failure the try itself
    has dealt with the execution, and the callback does nothing.

    The execution of a later try, which the record then names, is not stopped.
    """
    from polysync_airflow.operators.failure_callback_run import stop_unless_handled

    stop_unless_handled(context)


def with_own_callback(callbacks: Any) -> list[Callback]:
    """Return the failure callbacks of a task together with that of the provider."""
    if not callbacks:
        return [stop_orphaned_execution]
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if stop_orphaned_execution in callbacks:
        return list(callbacks)
    return [*callbacks, stop_orphaned_execution]
