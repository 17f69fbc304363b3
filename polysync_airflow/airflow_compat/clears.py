"""
Clears tasks in the database, for commands: as the tab does, by the endpoint of
Airflow's REST API, which runs in this process.

So Airflow decides what is cleared with a task, and its audit log says who has cleared
it: the user of the operating system. Only Airflow 3 has that endpoint.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Mapping, Sequence
from functools import cache
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Final

from airflow.models.serialized_dag import SerializedDagModel
from sqlalchemy import select

from polysync_airflow.airflow_compat import reads
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.json_input import read_json

if CAPABILITIES.react_apps:
    from airflow.api_fastapi.common.dagbag import create_dag_bag
    from airflow.api_fastapi.core_api.routes.public.task_instances import (
        post_clear_task_instances,
    )
    from airflow.api_fastapi.core_api.security import get_user
    from airflow.api_fastapi.logging.decorators import action_logging
    from fastapi import Depends, FastAPI

_PATH: Final = "/dags/{dag_id}/clearTaskInstances"


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
    status, response = asyncio.run(_post(dag_id, {**request, **options}))
    if status != HTTPStatus.OK:
        detail = response.get("detail")
        raise ClearError(f"Airflow has not cleared the tasks: {detail} ({status}).")
    return int(response["total_entries"])


async def _post(dag_id: str, request: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Send a request to the endpoint, as a server does, and return its response."""
    # https://asgi.readthedocs.io/en/stable/specs/www.html
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": _PATH.format(dag_id=dag_id),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    body = {"type": "http.request", "body": json.dumps(request).encode()}
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return body

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await _application()(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in messages)
    return messages[0]["status"], read_json(content, "The response")


@cache
def _application() -> Any:
    """
    Return an application with the endpoint, which whoever has the database may use.
    """
    application = FastAPI()
    application.state.dag_bag = create_dag_bag()
    application.dependency_overrides[get_user] = _user_of_the_shell
    application.add_api_route(
        _PATH,
        post_clear_task_instances,
        methods=["POST"],
        dependencies=[Depends(action_logging())],
    )
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
