"""
The endpoint that stores what the next clear of a task does, on Airflow's own database.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.instructions import (
    ClearChoice,
    ExecutionRecord,
    TaskKey,
)
from polysync_airflow.records.serialization import RECORD, from_stored, to_variable
from tests.fakes.evil_json import EVIL, NESTED
from tests.unit.execution.lifecycle.builders import stored
from tests.unit.ui.stored_tasks import remove_task, store_task, stored_variable

if not CAPABILITIES.react_apps:
    pytest.skip("this Airflow has no tabs of plugins", allow_module_level=True)

TASK = TaskKey("churn_retraining", "manual__2026-03-01", "train", -1)
URL = f"/dags/{TASK.dag_id}/clear-choice"
RECORDED = stored()
ENDED: list[str | None] = ["success", "failed", "skipped", "upstream_failed"]
RUNNING = [
    "scheduled",
    "queued",
    "running",
    "deferred",
    "up_for_retry",
    "up_for_reschedule",
    "restarting",
    None,
]

PutTask = Callable[..., None]
Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def put_task(airflow_database: None) -> Iterator[Callable[..., None]]:
    """Returns a function that stores a task instance and its record."""

    def put(
        state: str | None = "failed", value: str | None = to_text(RECORDED)
    ) -> None:
        store_task(TASK, state, value)

    yield put
    remove_task(TASK)


@pytest.fixture
def call(send: Call) -> Call:
    """
    Returns a function that sends a request to the endpoint, and returns the status and
    the body of the response.
    """

    def call_endpoint(
        method: str = "PUT", role: str | None = "user", url: str = URL, **request: Any
    ) -> tuple[int, Any]:
        return send(method, url, role, **request)

    return call_endpoint


def to_text(record: ExecutionRecord, task: TaskKey = TASK) -> str:
    """Return the value of the Variable with a record, as the task writes it."""
    return to_variable(record, task)


def body(on_clear: Any = "resume", **changes: Any) -> dict[str, Any]:
    """Return the body of a request."""
    return {
        "run_id": TASK.run_id,
        "task_id": TASK.task_id,
        "map_index": -1,
        "on_clear": on_clear,
        **changes,
    }


def variable() -> Any:
    """Return value and description of the Variable; None if there is none."""
    return stored_variable(TASK)


def record() -> ExecutionRecord:
    """Return the stored record, whose signature is valid."""
    return from_stored(json.loads(variable()[0])[RECORD], TASK, place="")


READ = {"run_id": TASK.run_id, "task_id": TASK.task_id}


def test_choice_is_stored_signed_and_withdrawn(
    put_task: PutTask, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Everything else in the record stays as it was, and the log says who has chosen.
    """
    put_task()
    assert call("GET", params=READ) == (200, {"on_clear": None, "has_record": True})
    with caplog.at_level(logging.INFO):
        assert call(json=body("resume")) == (200, {"on_clear": "resume"})

    assert record() == stored(clear_choice=ClearChoice(on_clear="resume"))
    assert variable()[1] == "of try 1"
    assert any(
        "pat has chosen" in text and "resume" in text for text in caplog.messages
    )
    assert call("GET", params=READ) == (200, {"on_clear": "resume", "has_record": True})
    assert call(json=body("new")) == (200, {"on_clear": "new"})
    assert record() == stored(clear_choice=ClearChoice(on_clear="new"))
    assert call(json=body(None)) == (200, {"on_clear": None})
    assert variable()[0] == to_text(RECORDED)


def test_choice_of_an_earlier_clear_is_not_reported(
    put_task: PutTask, call: Call
) -> None:
    """It counts no more, and another one may take its place."""
    put_task(
        value=to_text(stored(clear_choice=ClearChoice(on_clear="resume", epoch=2)))
    )

    assert call("GET", params=READ) == (200, {"on_clear": None, "has_record": True})
    assert call(json=body("new"))[0] == 200
    assert record().clear_choice == ClearChoice(on_clear="new")


@pytest.mark.parametrize("state", ENDED + RUNNING)
def test_only_the_record_of_an_ended_task_is_written(
    state: str | None, put_task: PutTask, call: Call
) -> None:
    """A try that runs, or is on its way, may write the record at any moment."""
    put_task(state)

    status, answer = call(json=body())

    assert status == (200 if state in ENDED else 409)
    assert (variable()[0] == to_text(RECORDED)) is (state not in ENDED)
    assert state in ENDED or answer == {
        "detail": f"The task has not ended. Its state is {state or 'not set'}."
    }
    assert call("GET", params=READ)[0] == 200


@pytest.mark.parametrize(
    ("role", "read_status", "status"),
    [(None, 401, 401), ("viewer", 200, 403), ("user", 200, 200), ("op", 200, 200)],
)
def test_who_may_clear_may_choose(
    role: str | None, read_status: int, status: int, put_task: PutTask, call: Call
) -> None:
    """
    Airflow's auth manager decides. That one may not is no error for who asks: browsers
    would show it as one.
    """
    put_task()

    read = call("GET", role, params=READ)
    assert read[0] == read_status
    assert (read[1] == {"is_allowed": False}) is (role == "viewer")
    assert call("PUT", role, json=body())[0] == status
    assert (variable()[0] == to_text(RECORDED)) is (status != 200)
    # The page of all executions is no choice.
    assert call("GET", "", "/executions-summary")[0] == 403


ENDPOINTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", URL, {"params": {"run_id": TASK.run_id, "task_id": TASK.task_id}}),
    ("GET", URL, {}),
    ("PUT", URL, {"json": {}}),
    ("PUT", URL, {"content": b"{", "headers": {"Sec-Fetch-Site": "cross-site"}}),
    ("GET", "/build/sagemaker.js", {}),
    ("GET", "/dags/%00/clear-choice", {}),
]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_refused_everywhere(status: int, app: Any) -> None:
    """
    Before anything else is looked at. It is not the answer to somebody who may only not
    clear the task.
    """
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import HTTPException
    from fastapi.testclient import TestClient

    def refuse() -> None:
        raise HTTPException(status, "Invalid JWT token")

    app.dependency_overrides[get_user] = refuse
    client = TestClient(app)

    for method, url, more in ENDPOINTS:
        assert client.request(method, url, **more).status_code == status, (method, url)


UNSTORABLE = ["\x00", "a\x00b"]


@pytest.mark.parametrize("text", UNSTORABLE)
def test_ids_that_no_database_has(text: str, put_task: PutTask, call: Call) -> None:
    """PostgreSQL fails at a NUL. Airflow asks about the DAG, so it is refused before."""
    put_task()
    path = f"/dags/{quote(text)}/clear-choice"
    problem = {"detail": "The URL has a character that no id can have."}

    for role in ("user", "viewer"):
        assert call("GET", role, path, params=READ) == (422, problem)
        assert call("PUT", role, path, json=body()) == (422, problem)
        for name in READ:
            found = call("GET", role, params={**READ, name: text})
            assert found == (422, problem)
        assert call("GET", role, params={**READ, text: "x"}) == (422, problem)
    for name in READ:
        for wrong in (text, "\ud800"):
            sent = json.dumps(body(**{name: wrong}))
            headers = {"Content-Type": "application/json"}
            status, answer = call(content=sent, headers=headers)
            assert status == 422
            assert answer["detail"].startswith(f"{name}: ")
    assert variable()[0] == to_text(RECORDED)


@pytest.mark.parametrize("kind", EVIL)
def test_record_that_cannot_be_read(kind: str, put_task: PutTask, call: Call) -> None:
    """The answer says what is wrong, and the record stays as it is."""
    put_task(value=EVIL[kind])

    for status, answer in (call("GET", params=READ), call(json=body())):
        assert status == 409
        assert re.search("is (damaged|not used)", answer["detail"])
    assert variable()[0] == EVIL[kind]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (
            {"Sec-Fetch-Site": "same-origin", "Origin": "https://airflow.example.com"},
            200,
        ),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://testserver"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://testserver"}, 200),
        # The browser's host, where a proxy passes on another one.
        ({"Origin": "https://airflow.example.com"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(
    headers: dict[str, str],
    status: int,
    put_task: PutTask,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The browser may send the session cookie with their requests."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/team")
    put_task()

    sent = call(
        content=json.dumps(body()),
        headers={"Content-Type": "application/json", **headers},
    )

    assert sent[0] == status
    assert (variable()[0] == to_text(RECORDED)) is (status != 200)


@pytest.mark.parametrize("base_url", ["", "/team"])
def test_page_without_an_origin_is_none_of_a_server_without_a_host(
    base_url: str, put_task: PutTask, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither has a host, and no host is no host in common."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    put_task()

    detail = "The request comes from a page of another site."
    sent = call(json=body(), headers={"Origin": "null"})
    assert sent == (403, {"detail": detail})
    # Without a type of its content.
    assert call(content=json.dumps(body()))[0] == 415


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"on_clear": "stop"}, "on_clear: Input should be 'new' or 'resume'"),
        ({"on_clear": True}, "on_clear"),
        ({"on_clear": ["new"]}, "on_clear"),
        ({"run_id": ""}, "run_id"),
        ({"run_id": "r" * 251}, "run_id"),
        ({"task_id": 7}, "task_id"),
        ({"map_index": -2}, "map_index"),
        ({"map_index": "0"}, "map_index"),
        ({"dag_id": "another_dag"}, "dag_id: Extra inputs are not permitted"),
        ({"key": "another_variable"}, "key: Extra inputs are not permitted"),
    ],
)
def test_invalid_values_are_named(
    changes: dict[str, Any], problem: str, put_task: PutTask, call: Call
) -> None:
    """The values themselves are not repeated."""
    put_task()

    status, answer = call(json=body(**changes))

    assert (status, variable()[0]) == (422, to_text(RECORDED))
    assert answer["detail"].startswith(problem)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b"\xff", 422),
        (NESTED.encode(), 422),
        (b'{"map_index": ' + b"9" * 5000 + b"}", 422),
        (b" " * 17_000, 413),
    ],
    ids=["empty", "list", "no end", "no text", "nested", "digits", "long"],
)
def test_bodies_that_are_no_change(
    content: bytes, status: int, put_task: PutTask, call: Call
) -> None:
    """What is too long is refused before it is parsed."""
    put_task()

    found, answer = call(content=content, headers={"Content-Type": "application/json"})
    assert found == status
    if content[:1] != b"[" and status == 422:
        assert answer["detail"].startswith("The body ")
    assert status == 422 or answer["detail"] == "The body is longer than 16384 bytes."
    assert (
        call(
            json={name: value for name, value in body().items() if name != "on_clear"}
        )[0]
        == 422
    )
    assert variable()[0] == to_text(RECORDED)


@pytest.mark.parametrize(
    ("value", "status", "detail"),
    [
        (None, 404, "The task has no record of an execution."),
        ("{}", 409, "is damaged"),
        (
            json.dumps({RECORD: RECORDED.model_dump(mode="json")}),
            409,
            "it has no signature",
        ),
        (
            to_text(RECORDED, TaskKey(TASK.dag_id, TASK.run_id, "other", -1)),
            409,
            "not that of this task",
        ),
        (
            to_text(RECORDED).replace("us-east-1", "eu-west-1", 1),
            409,
            "not that of this task",
        ),
    ],
    ids=["none", "damaged", "unsigned", "of another task", "edited"],
)
def test_only_a_proven_record_is_written(
    value: str | None, status: int, detail: str, put_task: PutTask, call: Call
) -> None:
    """A Variable that the task has not written itself stays as it is."""
    put_task(value=value)

    reads = [] if value is None else [("GET", {"params": READ})]
    for method, request in (*reads, ("PUT", {"json": body()})):
        found, answer = call(method, **request)
        assert (found, detail in answer["detail"]) == (status, True), answer
    assert (variable() or [None])[0] == value


def test_no_record_is_no_error(put_task: PutTask, call: Call) -> None:
    """The tab asks before it knows: browsers would show an error."""
    put_task(value=None)

    assert call("GET", params=READ) == (200, {"on_clear": None, "has_record": False})


@pytest.fixture
def dag_of_others(airflow_database: None) -> Iterator[TaskKey]:
    """A task, with a record, of the DAG of a team in which the user is not."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.team import Team
    from airflow.utils.session import create_session

    task = replace(TASK, dag_id="payroll_retraining")
    store_task(task, "failed", to_text(RECORDED, task))
    with create_session() as session:
        bundle = DagBundleModel(name="bundle")
        bundle.teams = [Team(name="payroll")]
        session.add(bundle)
    yield task
    remove_task(task)
    with create_session() as session:
        for model, name in ((DagBundleModel, "bundle"), (Team, "payroll")):
            session.delete(session.get(model, name))


@pytest.mark.skipif(
    not CAPABILITIES.variable_keys, reason="teams are tested from Airflow 3.3 on"
)
@pytest.mark.parametrize(
    ("method", "path", "request_of_task", "answer"),
    [
        ("GET", "clear-choice", {"params": READ}, (200, {"is_allowed": False})),
        (
            "GET",
            "clear-choice",
            {"params": {**READ, "map_index": "x"}},
            (200, {"is_allowed": False}),
        ),
        (
            "GET",
            "xcoms",
            {"params": {**READ, "key": "run"}},
            (200, {"is_allowed": False}),
        ),
        ("PUT", "clear-choice", {"json": body()}, (403, {"detail": "Forbidden"})),
        ("PUT", "clear-choice", {"json": {}}, (403, {"detail": "Forbidden"})),
    ],
)
def test_dag_of_others_is_like_one_that_does_not_exist(
    dag_of_others: TaskKey,
    call: Call,
    method: str,
    path: str,
    request_of_task: dict[str, Any],
    answer: tuple[int, Any],
) -> None:
    """Nobody learns the ids of other teams' DAGs by asking about them."""
    for dag_id in (dag_of_others.dag_id, "another_dag", "~", "%2e%2e"):
        url = f"/dags/{dag_id}/{path}"
        assert call(method, url=url, **request_of_task) == answer, dag_id


def test_unknown_tasks_have_no_record(put_task: PutTask, call: Call) -> None:
    """The DAG of the path, for which the permission was checked, is part of the key."""
    put_task()

    for changes in ({"run_id": "other"}, {"task_id": "other"}, {"map_index": 0}):
        assert call(json=body(**changes))[0] == 404
    assert variable()[0] == to_text(RECORDED)


def test_variable_that_cannot_be_decrypted_is_an_error(
    put_task: PutTask, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not reported as if there were no record."""
    put_task()
    before = variable()
    # With another key, Airflow gives no value, and no error.
    monkeypatch.setattr(
        "airflow.models.variable.get_fernet", lambda: Fernet(Fernet.generate_key())
    )

    for method, request in (("GET", {"params": READ}), ("PUT", {"json": body()})):
        status, answer = call(method, **request)
        assert status == 500
        assert (
            "cannot be decrypted with the deployment's Fernet key" in answer["detail"]
        )
    monkeypatch.undo()
    assert variable() == before
