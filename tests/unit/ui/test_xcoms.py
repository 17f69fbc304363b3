"""The endpoint with the XComs of a task, on Airflow's own database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.instructions import ClearChoice, TaskKey
from polysync_airflow.records.serialization import to_variable
from tests.unit.execution.lifecycle.builders import stored
from tests.unit.ui.stored_tasks import (
    pause,
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


AT = "2100-01-01T00:00:00+00:00"
FAILED = {
    "execution_arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/p/execution/a1",
    "state": "Failed",
    "next": {
        "try_number": 1,
        "max_tries": 2,
        "clear": "start",
        "resumable": True,
        "retry": {"does": "resume", "at": AT},
    },
}
RETRY = "2 of 3 resumes the failed steps"
CLEARED = "When Airflow schedules it, try 2 of 4"


@pytest.mark.parametrize(
    ("run", "task", "expected"),
    [
        (FAILED, {"state": "up_for_retry"}, [(f"Try {RETRY} at", AT)]),
        # Somebody has marked it, or cleared it.
        (
            FAILED,
            {"state": "failed"},
            [
                ("Nothing follows by itself: the task has failed", None),
                (
                    '"Resume failed steps" repeats what has not succeeded, and a clear'
                    " starts a new execution",
                    None,
                ),
            ],
        ),
        (
            FAILED,
            {"state": None, "max_tries": 3},
            [(f"{CLEARED} starts a new execution", None)],
        ),
        (
            {"state": {"edited": "by somebody"}},
            {"state": "up_for_retry"},
            [("After the retry delay, try 2 of 3 begins", None)],
        ),
    ],
)
def test_what_comes_next_follows_from_the_state_of_now(
    call: Call, run: Any, task: dict[str, Any], expected: Any
) -> None:
    """Whatever the task has promised before."""
    store_execution("first", run, **{"max_tries": 2, **task})

    _, body = call(params={**READ, "key": ["run", "steps"]})

    assert body["next"] == [{"text": text, "at": at} for text, at in expected]


@pytest.mark.parametrize(
    ("is_paused", "text"),
    [
        (True, f"When the DAG is unpaused, try {RETRY}"),
        (False, f"Try {RETRY} at"),
    ],
)
def test_paused_dag_lets_nothing_follow(call: Call, is_paused: bool, text: str) -> None:
    """The scheduler does not look at its runs."""
    pause(DAG_ID, is_paused=is_paused)
    store_execution("first", FAILED, state="up_for_retry", max_tries=2)

    _, body = call(params={**READ, "key": "run"})

    (sentence,) = body["next"]
    assert sentence["text"] == text
    assert (sentence["at"] is None) is is_paused


@pytest.mark.parametrize(
    ("choice", "effect"),
    [
        (None, "starts a new execution"),
        (ClearChoice(on_clear="resume"), "resumes the failed steps"),
    ],
)
def test_choice_of_a_person_is_what_comes_next(
    call: Call, choice: ClearChoice | None, effect: str
) -> None:
    """The tab stores it before it clears the task."""
    record = stored(clear_choice=choice)
    task = TaskKey(DAG_ID, "first", "train", -1)
    store_task(task, None, to_variable(record, task))
    remove_executions()
    store_execution("first", FAILED, state=None, max_tries=3)

    _, body = call(params={**READ, "key": "run"})

    (sentence,) = body["next"]
    assert sentence["text"] == f"{CLEARED} {effect}"


def test_what_comes_next_is_told_with_run_only(call: Call) -> None:
    """Also if a task has not stored anything, and not of one that does not exist."""
    store_execution("first", FAILED, key="steps", state="failed")
    nothing = {"text": "Nothing follows by itself: the task has failed", "at": None}

    assert "next" not in call(params={**READ, "key": "steps"})[1]
    assert call(params={**READ, "key": "run"})[1]["next"] == [nothing]
    assert call(params={**READ, "run_id": "none", "key": "run"})[1]["next"] == []


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
