"""
Who gets what from Airflow's own application if FAB is its auth manager: the files and
the endpoint of the tab, and what the page of all executions reads.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.serialization import to_variable
from polysync_airflow.testing.dag_files import _connect
from polysync_airflow.ui.plugin import URL_PREFIX
from tests.fab.users import (
    AUTH_MANAGER,
    EDITED,
    HIDDEN,
    SEEN,
    USERS,
    add_users,
    has_fab,
    password_of,
)
from tests.unit.execution.lifecycle.builders import stored
from tests.unit.ui.stored_tasks import remove_task, store_task, stored_variable

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

if not has_fab():
    pytest.skip(
        "this Airflow has no tabs of plugins, or no FAB", allow_module_level=True
    )

from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

from polysync_airflow.ui.app import (
    BUNDLE,
    PATH,
    SUMMARY_PATH,
    XCOMS_PATH,
    build_id,
    create_app,
)

UNKNOWN = "no_such_dag"
# Whose DAG has a record. That of the last one is hidden from the editor of some DAGs.
RECORDED = (EDITED, SEEN, HIDDEN[0])
ANONYMOUS = "anonymous"
# Somebody whose account was deleted after the sign-in.
DISMISSED = "dismissed"
PUBLIC_ROLE = "AIRFLOW__FAB__AUTH_ROLE_PUBLIC"

Call = Callable[..., tuple[int, Any]]


def task_of(dag_id: str) -> TaskKey:
    """Return a task instance of a DAG."""
    return TaskKey(dag_id, "manual__2026-03-01", "train", -1)


def value_of(dag_id: str) -> str:
    """Return the value of the Variable with the record of the DAG's task."""
    task = task_of(dag_id)
    return to_variable(stored(), task)


@pytest.fixture(scope="module")
def client(
    airflow_database: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A client of Airflow's application with FAB, on a database of its own."""
    from airflow.api_fastapi import app as airflow
    from airflow.utils.session import create_session
    from fastapi.testclient import TestClient

    home = tmp_path_factory.mktemp("fab")
    shutil.copy(Path(os.environ["AIRFLOW_HOME"], "airflow.db"), home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{home}/airflow.db"
        )
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", AUTH_MANAGER)
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_hex(32))
        # With it, Airflow looks for the role in each request.
        patch.setenv(PUBLIC_ROLE, "Viewer")
        _connect()
        with warnings.catch_warnings():
            # FAB's modules are deprecated by those that they import.
            warnings.simplefilter("ignore")
            app = airflow.create_app(apps="core")
        patch.delenv(PUBLIC_ROLE)
        with create_session() as session:
            add_users(session, {**USERS, DISMISSED: ["Admin"]})
        with TestClient(app) as client:
            yield client
        airflow.purge_cached_app()
    _connect()


@pytest.fixture(scope="module")
def cookies(client: TestClient) -> dict[str, dict[str, str]]:
    """The cookie with the session of each user, as a browser sends it."""
    from airflow.providers.fab.auth_manager.models import User
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    tokens = {}
    for user in (*USERS, DISMISSED):
        login = {"username": user, "password": password_of(user)}
        response = client.post("/auth/token", json=login)
        tokens[user] = response.raise_for_status().json()["access_token"]
    with create_session() as session:
        session.execute(delete(User).where(User.username == DISMISSED))
    client.cookies.clear()
    sent = {user: {"Cookie": f"_token={token}"} for user, token in tokens.items()}
    return {ANONYMOUS: {}, **sent}


@pytest.fixture
def call(client: TestClient, cookies: dict[str, dict[str, str]]) -> Iterator[Call]:
    """
    Returns a function that sends a request of a user, and returns the status and the
    body of the response. Some tasks have ended, and have a record.
    """
    for dag_id in RECORDED:
        store_task(task_of(dag_id), "failed", value_of(dag_id))

    def send(user: str, method: str, url: str, **request: Any) -> tuple[int, Any]:
        response = client.request(method, url, headers=cookies[user], **request)
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status_code, response.json() if is_json else response.text

    yield send
    for dag_id in RECORDED:
        remove_task(task_of(dag_id))


def url_of(dag_id: str) -> str:
    """Return the URL of the endpoint of a DAG."""
    return URL_PREFIX + PATH.format(dag_id=dag_id)


def look(call: Call, user: str, dag_id: str) -> tuple[int, Any]:
    """Ask what was chosen for the next clear."""
    task = {"run_id": task_of(dag_id).run_id, "task_id": "train"}
    return call(user, "GET", url_of(dag_id), params=task)


def choose(call: Call, user: str, dag_id: str) -> int:
    """Choose what the next clear does, and return the status."""
    task = {"run_id": task_of(dag_id).run_id, "task_id": "train"}
    return call(user, "PUT", url_of(dag_id), json={**task, "on_clear": "new"})[0]


def test_each_endpoint_is_tested() -> None:
    """A new one needs a row in the tables below."""
    routes: list[Any] = create_app().routes

    endpoints = {(method, route.path) for route in routes for method in route.methods}

    assert endpoints == {
        ("GET", "/{build}/{name}"),
        ("GET", SUMMARY_PATH),
        ("GET", PATH),
        ("PUT", PATH),
        ("GET", XCOMS_PATH),
    }


@pytest.mark.parametrize(
    ("user", "known", "unknown"),
    [
        ("admin", 200, 404),
        ("viewer", 200, 404),
        ("editor", 200, 404),
        ("runner", 200, 404),
        ("nobody", 200, 404),
        (ANONYMOUS, 401, 401),
        (DISMISSED, 403, 403),
    ],
)
def test_files(call: Call, user: str, known: int, unknown: int) -> None:
    """
    They have no data: all who have signed in get them. Others do not learn which exist.
    """
    folder = f"{URL_PREFIX}/{build_id()}"

    assert call(user, "GET", f"{folder}/{BUNDLE}")[0] == known
    assert call(user, "GET", f"{folder}/unknown.js")[0] == unknown


@pytest.mark.parametrize(
    ("user", "edited", "seen", "hidden", "unknown"),
    [
        ("admin", 200, 200, 200, 403),
        ("viewer", 403, 403, 403, 403),
        ("editor", 200, 403, 403, 403),
        ("runner", 403, 403, 403, 403),
        ("nobody", 403, 403, 403, 403),
        (ANONYMOUS, 401, 401, 401, 401),
        (DISMISSED, 403, 403, 403, 403),
    ],
)
def test_who_may_choose(
    call: Call, user: str, edited: int, seen: int, hidden: int, unknown: int
) -> None:
    """Who may clear tasks of the DAG. Of others, nothing is stored."""
    expected = {EDITED: edited, SEEN: seen, HIDDEN[0]: hidden, UNKNOWN: unknown}

    found = {dag_id: choose(call, user, dag_id) for dag_id in expected}

    assert found == expected
    changed = {
        dag_id
        for dag_id in RECORDED
        if stored_variable(task_of(dag_id))[0] != value_of(dag_id)
    }
    assert changed == {dag_id for dag_id in RECORDED if expected[dag_id] == 200}


MAY_CHOOSE = (200, {"on_clear": None, "has_record": True})
FORBIDDEN = (200, {"is_allowed": False})
MUST_SIGN_IN = (401, {"detail": "Not authenticated"})


@pytest.mark.parametrize(
    ("user", "edited", "seen", "hidden", "unknown"),
    [
        ("admin", MAY_CHOOSE, MAY_CHOOSE, MAY_CHOOSE, FORBIDDEN),
        ("viewer", FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN),
        ("editor", MAY_CHOOSE, FORBIDDEN, FORBIDDEN, FORBIDDEN),
        ("runner", FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN),
        ("nobody", FORBIDDEN, FORBIDDEN, FORBIDDEN, FORBIDDEN),
        (ANONYMOUS, MUST_SIGN_IN, MUST_SIGN_IN, MUST_SIGN_IN, MUST_SIGN_IN),
    ],
)
def test_who_sees_a_choice(
    call: Call, user: str, edited: Any, seen: Any, hidden: Any, unknown: Any
) -> None:
    """
    The same users. The answer to others is the same for a DAG that does not exist.
    """
    expected = {EDITED: edited, SEEN: seen, HIDDEN[0]: hidden, UNKNOWN: unknown}

    assert {dag_id: look(call, user, dag_id) for dag_id in expected} == expected


def test_the_path_names_the_dag(call: Call) -> None:
    """Airflow would also take a DAG from the query string."""
    hidden, edited = url_of(HIDDEN[0]), url_of(EDITED)
    body = {"run_id": task_of(EDITED).run_id, "task_id": "train", "on_clear": "new"}

    assert call("editor", "PUT", f"{hidden}?dag_id={EDITED}", json=body)[0] == 403
    assert call("editor", "PUT", f"{edited}?dag_id={HIDDEN[0]}", json=body)[0] == 200
    # All DAGs, in Airflow's API. Here, it is the name of none.
    assert choose(call, "editor", "~") == 403
    assert stored_variable(task_of(HIDDEN[0]))[0] == value_of(HIDDEN[0])


@pytest.mark.skipif(
    not hasattr(BaseAuthManager, "get_fastapi_middlewares"),
    reason="the API server of this Airflow gives no role to the anonymous",
)
@pytest.mark.parametrize(
    ("role", "file", "answer", "status"),
    [
        ("Public", 200, FORBIDDEN, 403),
        ("Viewer", 200, FORBIDDEN, 403),
        ("User", 200, MAY_CHOOSE, 200),
    ],
)
def test_role_of_the_anonymous(
    call: Call,
    role: str,
    file: int,
    answer: Any,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If FAB gives a role to whoever has not signed in, it counts here, too."""
    monkeypatch.setenv(PUBLIC_ROLE, role)

    assert call(ANONYMOUS, "GET", f"{URL_PREFIX}/{build_id()}/{BUNDLE}")[0] == file
    assert look(call, ANONYMOUS, EDITED) == answer
    with caplog.at_level(logging.INFO):
        assert choose(call, ANONYMOUS, EDITED) == status
    says_who = any("Anonymous has chosen" in text for text in caplog.messages)
    assert says_who is (status == 200)


@pytest.mark.parametrize("user", ["admin", "viewer", "editor", "runner", "nobody"])
def test_who_may_read_xcoms(call: Call, user: str) -> None:
    """Whoever may read them by Airflow's own endpoint."""
    for dag_id in (*RECORDED, UNKNOWN):
        task = {"run_id": task_of(dag_id).run_id, "task_id": "train", "key": "run"}
        own = f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances/~/xcomEntries"
        may_read = dag_id != UNKNOWN and call(user, "GET", own)[0] == 200

        read = call(user, "GET", f"{URL_PREFIX}/dags/{dag_id}/xcoms", params=task)

        expected: Any = (200, {"xcoms": {}, "next": []}) if may_read else FORBIDDEN
        assert read == expected, dag_id


# What Airflow's UI reads to show the tab and the page, then what the page reads.
PLUGINS = ("GET", "plugins")
LISTS = (
    ("GET", "dags/~/dagRuns/~/taskInstances"),
    ("POST", "dags/~/dagRuns/list"),
)


@pytest.mark.parametrize(
    ("user", "plugins", "lists"),
    [
        ("admin", 200, 200),
        ("viewer", 200, 200),
        ("viewer without plugins", 403, 200),
        ("user without plugins", 403, 200),
        ("op", 200, 200),
        ("editor", 200, 200),
        ("runner", 200, 200),
        ("nobody", 403, 403),
        (ANONYMOUS, 401, 401),
        (DISMISSED, 403, 403),
    ],
)
def test_who_has_the_page(call: Call, user: str, plugins: int, lists: int) -> None:
    """
    FAB's own roles Viewer and User lack a permission, without which Airflow shows
    neither the tab nor the page.
    """
    found = [
        call(user, method, f"/api/v2/{path}", json={} if method == "POST" else None)[0]
        for method, path in (PLUGINS, *LISTS)
    ]

    assert found == [plugins, lists, lists]
    # The summary has what these lists have, of the same DAGs (tests/browser).
    assert call(user, "GET", URL_PREFIX + SUMMARY_PATH)[0] == lists
