"""
Teams of Airflow (``[core] multi_team``): what a process may read.

Airflow knows the team of a request by the task whose process sends it
(``get_team_name_dep`` in airflow/api_fastapi/execution_api/security.py). So a worker
finds the Variables and the connections of its task's team, and those without a team.
The DAG processor and the triggerer find only those without a team, also if they work
for one team alone. They may list the keys of all Variables, write all Variables, and
read and write all XComs. The process of a try that Airflow has replaced has no team
either, and reads and writes no XCom of one. The API server and commands read the
database, which hides nothing.

A key, or a connection id, is unique among all teams, and a write leaves its team as it
is.
"""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any, Final

from airflow.providers.common.compat.sdk import Context, conf

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.supervisor import is_missing

log = logging.getLogger(__name__)

_HIDDEN_CONNECTION: Final = (
    " With [core] multi_team = True, Airflow's triggerer and DAG processor find only"
    " connections without a team, and those in their environment."
)


def is_multi_team() -> bool:
    """Return whether this deployment has teams."""
    is_set: bool = conf.getboolean("core", "multi_team", fallback=False)
    return is_set


def team_of(context: Context) -> str | None:
    """Return the team of a task; None if it has none. For a worker."""
    dag_run: Any = context.get("dag_run")
    team: str | None = getattr(dag_run, "team_name", None)
    return team


def may_be_hidden(context: Context) -> bool:
    """
    Return whether a Variable of a task may be one that Airflow hides from the DAG
    processor and the triggerer.

    :param context: the task's context on a worker, which has the team.
    """
    return is_multi_team() or team_of(context) is not None


def is_hidden_variable(key: str) -> bool:
    """
    Return whether there is a Variable that Airflow hides from this process, which has
    not found it. Airflow 3.2 does not say so.

    :raises Exception: Airflow does not respond.
    """
    if not CAPABILITIES.variable_keys:
        return False
    from polysync_airflow.airflow_compat import requests

    return requests.has_variable_key(key)


def hint_at_hidden_connection() -> str:
    """
    Return why a connection that is not found may exist, as a sentence that follows
    another one; empty without teams.
    """
    if not is_multi_team():
        return ""
    return _HIDDEN_CONNECTION


def warn_of_hidden_connection(connection_id: Any) -> None:
    """
    Warn if the DAG processor, which parses a DAG, does not find the connection of a
    task, which it and the triggerer need.

    :param connection_id: the connection. A template is not rendered at that time.
    """
    if not isinstance(connection_id, str) or "{{" in connection_id:
        return
    # A worker parses the DAG as well, but finds the connections of its team. Airflow
    # sets the environment variable in the DAG processor (``_parse_file_entrypoint``
    # in airflow/dag_processing/processor.py) and in triggerers.
    context = os.environ.get("_AIRFLOW_PROCESS_CONTEXT")
    if context == "client" and is_multi_team():
        _warn_if_missing(connection_id)


# The process that parses a file ends afterwards.
@cache
def _warn_if_missing(connection_id: str) -> None:
    if is_missing(connection_id):
        log.warning(
            "polysync_conn_id = %r: the DAG processor does not find this connection."
            " Without it, no deferred task can wait, and no execution of a task whose"
            " process has died is stopped. If there is none, add it.%s",
            connection_id,
            _HIDDEN_CONNECTION,
        )
