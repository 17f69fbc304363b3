"""
An auth manager of Airflow, whose viewers may see half of the DAGs: those with an even
number.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import (
    SimpleAuthManager,
)


class HalfAuthManager(SimpleAuthManager):
    """
    Refuses what belongs to a DAG whose id ends with an odd number, to all but ann.
    """

    def is_authorized_dag(
        self, *, user: Any, details: Any = None, **others: Any
    ) -> bool:
        """Return whether a user may do something with a DAG."""
        dag_id = (details and details.id) or ""
        is_hidden = user.get_name() != "ann" and dag_id.endswith(
            ("1", "3", "5", "7", "9")
        )
        return not is_hidden and super().is_authorized_dag(
            user=user, details=details, **others
        )
