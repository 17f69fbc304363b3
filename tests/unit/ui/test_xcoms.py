"""The endpoint with the XComs of a task, on Airflow's own database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from tests.unit.ui.stored_tasks import (
    remove_executions,
    remove_task,
    store_execution,
    store_task,
)

if not CAPABILITIES.react_apps:
    pytest.skip("this Airflow has no tabs of plugins", allow_module_level=True)

DAG_ID = "churn_daily"
TASK = TaskKey(DAG_ID, "other", "train", -1)
READ = {"run_id": "first", "task_id": "train"}
KIB = 1024

Call = Callable[..., tuple[int, Any]]


@pytest.fixture(autouse=True)
def dag(airflow_database: None) -> Iterator[None]:
    """Store a DAG, without a DAG run."""
    store_task(TASK, "success", None)
    yield
    remove_executions()
    remove_task(TASK)


@pytest.fixture
def call(send: Call) -> Call:
    """Returns a function that reads XComs of a task, and returns status and body."""

    def read_xcoms(
        role: str | None = "viewer", dag_id: str = DAG_ID, **request: Any
    ) -> tuple[int, Any]:
        return send("GET", f"/dags/{dag_id}/xcoms", role, **request)

    return read_xcoms


def texts(answer: tuple[int, Any]) -> dict[str, str | None]:
    """Return the JSON of the XComs in an answer."""
    status, body = answer
    assert status == 200
    assert all(xcom["written_at"].startswith("20") for xcom in body["xcoms"].values())
    return {key: xcom["text"] for key, xcom in body["xcoms"].items()}


def test_xcoms_of_a_task_are_read_together(call: Call) -> None:
    """Those that exist, of this map index."""
    store_execution("first", {"state": "Success"})
    read = call(params={**READ, "key": ["run", "steps"]})
    mapped = call(params={**READ, "key": "run", "map_index": 3})

    assert texts(read) == {"run": json.dumps(json.dumps({"state": "Success"}))}
    assert texts(mapped) == {}


@pytest.mark.parametrize(("key", "size"), [("run", 256 * KIB), ("steps", 64 * KIB)])
def test_large_xcom_does_not_leave_the_database(
    call: Call, key: str, size: int
) -> None:
    """It has no text: the query has compared its size."""
    store_execution("first", {"padding": "x" * (size - 100)}, key=key)
    store_execution("second", {"padding": "x" * size}, key=key)

    fits = call(params={**READ, "key": key})
    large = call(params={**READ, "run_id": "second", "key": key})

    assert len(texts(fits)[key] or "") > size - 100
    assert texts(large) == {key: None}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"role": None}, (401, {"detail": "Not authenticated"})),
        ({"dag_id": "unknown"}, (200, {"is_allowed": False})),
        ({"role": ""}, (200, {"is_allowed": False})),
    ],
)
def test_who_may_not_read_xcoms(
    call: Call, request_: dict[str, Any], expected: tuple[int, Any]
) -> None:
    """A DAG that does not exist is as one that the user may not read."""
    assert call(params={**READ, "key": "run"}, **request_) == expected


@pytest.mark.parametrize(
    "key", [[], ["run"] * 11, ["x" * 251], ["\x00"], [""]], ids=repr
)
def test_keys_are_bounded(call: Call, key: list[str]) -> None:
    """At most ten, which ids can have."""
    assert call(params={**READ, "key": key})[0] == 422
