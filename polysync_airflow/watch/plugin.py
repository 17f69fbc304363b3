"""
The Airflow plugin that registers the listeners of the watch.

Every component of Airflow imports its plugins. Therefore this module imports nothing
heavy, and registers nothing where no listener is of use.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.processes import is_told_of_ends, remove_in_tasks

log = logging.getLogger(__name__)


class PolysyncWatchPlugin(AirflowPlugin):
    """Registers the listeners, where Airflow tells them how DAG runs and tasks end."""

    name = "polysync_watch"

    if CAPABILITIES.triggerer_callbacks:

        @cached_property
        def listeners(self) -> list[Any]:  # type: ignore[override]
            """The listener, in the scheduler and in the API server."""
            if not is_told_of_ends():
                return []
            try:
                from polysync_airflow.watch.listeners import EndListener
            except Exception as error:
                # A newer Airflow may have changed what its listeners need.
                log.warning(
                    "Executions whose task ends while none of its processes runs are"
                    " not stopped at once, since this Airflow has no listeners as this"
                    " provider needs them: %s: %s. Schedule: polysync records"
                    " --stop-orphans",
                    type(error).__name__,
                    error,
                )
                return []
            listener = EndListener()
            remove_in_tasks(listener)
            return [listener]
