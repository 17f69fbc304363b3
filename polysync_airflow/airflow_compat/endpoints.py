"""
Clears tasks and reads their logs, for commands that reach the database: as the tab
does, by the endpoints of Airflow's REST API, which run in this process.

So Airflow decides what is cleared with a task, and its audit log says who has cleared
it: the user of the operating system. Only Airflow 3 has these endpoints.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlencode

from airflow.models.serialized_dag import SerializedDagModel
from sqlalchemy import select

from polysync_airflow.airflow_compat import reads
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.json_input import read_json

if CAPABILITIES.react_apps:
    from airflow.api_fastapi.common.dagbag import create_dag_bag
    from airflow.api_fastapi.core_api.datamodels.log import TaskInstancesLogResponse
    from airflow.api_fastapi.core_api.routes.public.log import get_log
    from airflow.api_fastapi.core_api.routes.public.task_instances import (
        post_clear_task_instances,
    )
    from airflow.api_fastapi.core_api.security import get_user
    from airflow.api_fastapi.logging.decorators import action_logging
    from fastapi import Depends, FastAPI

# Airflow 3.4 takes the DAG of the audit log from the path.
_CLEAR: Final = "/dags/{dag_id}/clearTaskInstances"
_LOG: Final = "/log"
_ERROR_LEVELS: Final = ("error", "critical")


class ClearError(PolysyncError):
    """Airflow has refused to clear a task. It has cleared none."""


def clear_tasks(
    dag_id: str, run_id: str, task_ids: Sequence[Any], **options: bool
) -> int:
    """
    Clear task instances of a DAG run with those after them, so that the DAG run goes
    on. Return how many these are.

    https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html

    :param task_ids: ids of tasks, or of task instances, each with its map index.
    :param options: other members of the request: ``only_failed``, and ``dry_run`` to
        clear none.
    :raises ClearError: Airflow has refused it, for example because one of them runs.
    """
    request = {
        "dag_run_id": run_id,
        "task_ids": task_ids,
        "include_downstream": True,
        "reset_dag_runs": True,
        "prevent_running_task": True,
        "only_failed": False,
        "dry_run": False,
    }
    path = _CLEAR.format(dag_id=dag_id)
    status, response = _call("POST", path, body={**request, **options})
    if status != HTTPStatus.OK:
        detail = response.get("detail")
        raise ClearError(f"Airflow has not cleared the tasks: {detail} ({status}).")
    return int(response["total_entries"])


def last_error(try_number: int, **task: Any) -> str | None:
    """
    Return the last error in the log of a try, which Airflow reads where it has stored
    it; None if there is none, or if it cannot be read.

    :param task: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    query = {**task, "dag_run_id": task["run_id"], "try_number": try_number}
    status, response = _call("GET", _LOG, query={**query, "full_content": True})
    if status != HTTPStatus.OK:
        return None
    texts = [
        _text_of(entry)
        for entry in response["content"]
        if isinstance(entry, Mapping) and entry.get("level") in _ERROR_LEVELS
    ]
    return texts[-1] if texts else None


def _text_of(entry: Mapping[str, Any]) -> str:
    """Return the text of an error, as ui/static/task_log.js does."""
    for raised in entry.get("error_detail") or ():
        return f"{raised.get('exc_type')}: {raised.get('exc_value')}"
    return str(entry.get("event"))


def _call(
    method: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
) -> tuple[int, Any]:
    """Send a request to an endpoint, as a server does. Return status and response."""
    # https://asgi.readthedocs.io/en/stable/specs/www.html
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": urlencode(query or {}).encode(),
        "headers": [
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
        ],
    }
    content = b""
    if body:
        content = json.dumps(body).encode()
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    with warnings.catch_warnings():
        # Pydantic warns of the lines of a log that Airflow has made itself.
        warnings.simplefilter("ignore", UserWarning)
        asyncio.run(_application()(scope, receive, send))
    response = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], read_json(response, "The response")


@cache
def _application() -> Any:
    """
    Return an application with the endpoints, which whoever has the database may use.
    """
    application = FastAPI()
    application.state.dag_bag = create_dag_bag()
    application.dependency_overrides[get_user] = _user_of_the_shell
    application.add_api_route(
        _CLEAR,
        post_clear_task_instances,
        methods=["POST"],
        dependencies=[Depends(action_logging())],
    )
    application.add_api_route(_LOG, get_log, response_model=TaskInstancesLogResponse)
    return application


def _user_of_the_shell() -> Any:
    name = getpass.getuser()
    return SimpleNamespace(
        get_name=lambda: name, get_display_name=lambda: name, get_id=lambda: name
    )


def tasks_before(
    dag_id: str, task_id: str, operator: str, *, follower: str
) -> list[str]:
    """
    Return the ids of the tasks of an operator that a task follows, in the newest
    version of the DAG; none if the task has another operator than that of such a group.

    :param operator: the name of the class of those tasks.
    :param follower: the name of the class of the task that follows them.
    """
    newest = select(SerializedDagModel).filter_by(dag_id=dag_id)
    newest = newest.order_by(SerializedDagModel.last_updated.desc()).limit(1)
    for version in reads.entities(newest, max_bytes=reads.MAX_BYTES_ALONE):
        tasks: dict[str, Any] = version.dag.task_dict
        task = tasks.get(task_id)
        if task is None or task.task_type != follower:
            return []
        before = task.get_flat_relative_ids(upstream=True)
        return sorted(each for each in before if tasks[each].task_type == operator)
    return []
