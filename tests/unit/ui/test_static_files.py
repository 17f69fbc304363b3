"""How the files of the tab are served."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from polysync_airflow import __version__
from polysync_airflow.execution.outcome import RequestedStop, StopReason
from polysync_airflow.ui import app as static_files
from polysync_airflow.ui.app import BUNDLE, build_id, read_files
from polysync_airflow.ui.plugin import TITLE

SOURCES = {name: content.decode() for name, content in read_files().items()}


@pytest.fixture
def client() -> Any:
    """A client of the application that has no session."""
    from fastapi.testclient import TestClient

    from polysync_airflow.ui.app import create_app

    return TestClient(create_app())


@pytest.fixture
def signed_in(client: Any) -> Any:
    """A client whose session Airflow has checked."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    user = SimpleAuthManagerUser(username="vic", role="viewer")
    client.app.dependency_overrides[get_user] = lambda: user
    return client


@pytest.mark.parametrize("name", read_files())
def test_files_are_served_to_users_who_are_signed_in(signed_in: Any, name: str) -> None:
    """
    A signed-in user gets each file as JavaScript, which browsers may keep, but no
    shared cache.
    """
    response = signed_in.get(f"/{build_id()}/{name}")

    assert response.content == read_files()[name]
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert response.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", [f"/{build_id()}/{BUNDLE}", f"/{build_id()}/unknown.js"]
)
def test_a_session_is_needed(client: Any, path: str) -> None:
    """Without a session there is no file, and no answer about which files exist."""
    assert client.get(path).status_code == 401
    client.cookies.set("_token", "")
    assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"/{build_id()}/",
        f"/{build_id()}/..%2fstatic_files.py",
        f"/{build_id()}/{BUNDLE}%00",
        f"/{build_id()}/{BUNDLE.upper()}",
        f"/0.0.1-000000000000/{BUNDLE}",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(signed_in: Any, path: str) -> None:
    """Only the names of the list exist, and only under the URL of this version."""
    response = signed_in.get(path)

    assert response.status_code == 404
    assert "immutable" not in response.headers.get("Cache-Control", "")
    if path.startswith("/0.0.1"):
        # A page that was opened before an upgrade.
        assert response.json() == {"detail": "Not found. Reload the page."}
        assert response.headers["Cache-Control"] == "no-store"


def test_the_url_changes_with_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL contains the version, and a digest that another content changes."""
    before = build_id()
    monkeypatch.setattr(
        static_files, "read_files", lambda: {**read_files(), BUNDLE: b"// changed"}
    )

    after = build_id.__wrapped__()

    assert re.fullmatch(rf"{re.escape(__version__)}-[0-9a-f]{{12}}", before)
    assert after != before


def test_all_files_are_served_and_imported() -> None:
    """
    The folder has only what is served, and each import of a module names one of its
    files.
    """
    folder = {path.name for path in static_files._FOLDER.iterdir()}
    imported = {
        name
        for source in SOURCES.values()
        for name in re.findall(r'from "\./([^"]+)"', source)
    }

    assert folder == set(read_files())
    assert imported == folder - {BUNDLE}


def test_the_tab_and_the_commands_say_the_same_of_a_stop() -> None:
    """Each reason of a stop has one text."""
    for reason in get_args(StopReason):
        stop = RequestedStop(
            requested_at=datetime.now(tz=UTC), reason=reason, process="worker"
        )
        because = stop.text.partition(", because ")[2]
        line = f'\n  {reason}: ", because {because}",\n'
        assert line in SOURCES["sagemaker_tab.js"]


def test_the_component_has_the_name_of_the_tab() -> None:
    """
    Airflow looks for the component under the name that the plugin gives to the tab.
    """
    assert f'const TITLE = "{TITLE}";' in SOURCES[BUNDLE]
