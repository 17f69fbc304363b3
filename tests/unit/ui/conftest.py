"""The application of the tab, with users of Airflow's SimpleAuthManager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

# It imports the application when it is collected.
collect_ignore = [] if CAPABILITIES.react_apps else ["test_static_files.py"]


@pytest.fixture(scope="session")
def _app() -> Any:
    """The application, which takes longer to make than to answer a request."""
    from polysync_airflow.ui.app import create_app

    return create_app()


@pytest.fixture
def app(_app: Any) -> Iterator[Any]:
    """The application, for a test that replaces some of its dependencies."""
    yield _app
    _app.dependency_overrides.clear()


@pytest.fixture
def send(app: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any]]:
    """
    Returns a function that sends a request of a user with a role, or without a user,
    and returns the status and the body of the response, which nobody may store.
    """
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import (
        SimpleAuthManager,
    )
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api import security
    from fastapi.testclient import TestClient

    monkeypatch.setattr(security, "get_auth_manager", SimpleAuthManager)
    client = TestClient(app)

    def send_request(
        method: str, url: str, role: str | None, **request: Any
    ) -> tuple[int, Any]:
        app.dependency_overrides.clear()
        if role is not None:
            user = SimpleAuthManagerUser(username="pat", role=role)
            app.dependency_overrides[security.get_user] = lambda: user
        response = client.request(method, url, **request)
        assert response.headers["Cache-Control"] == "no-store"
        return response.status_code, response.json()

    return send_request
