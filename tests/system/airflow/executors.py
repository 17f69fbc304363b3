"""
Executors for versions of Airflow whose scheduler exits when it asks for the callback of
a task with retries left.
"""

from __future__ import annotations

from typing import Any

from airflow.executors.local_executor import LocalExecutor
from airflow.models.db_callback_request import DbCallbackRequest
from airflow.utils.session import create_session


class CallbacksInOwnSession:
    """
    An executor that stores requests for callbacks without closing the session of the
    scheduler.
    """

    def send_callback(self, request: Any) -> None:
        """
        Store the request in a session of its own. Airflow's would close the
        scheduler's, which is of the same thread.
        """
        with create_session(scoped=False) as session:
            session.add(DbCallbackRequest(callback=request, priority_weight=1))


class LocalExecutorWithOwnSession(CallbacksInOwnSession, LocalExecutor):
    """LocalExecutor with that difference."""
