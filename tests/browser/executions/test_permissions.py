"""
The page of a person who may see some DAGs only, in an Airflow that has FAB as its auth
manager and runs under a path of a reverse proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import ApiServer, Site
from tests.browser.executions.test_rows import arrange
from tests.browser.tab_page import EXECUTIONS, TabPage
from tests.fab.users import AUTH_MANAGER, HIDDEN, add_users, has_fab, password_of

if TYPE_CHECKING:
    from playwright.sync_api import Response

pytestmark = [
    pytest.mark.system,
    pytest.mark.nightly,
    pytest.mark.skipif(
        not has_fab(), reason="this Airflow has no tabs of plugins, or no FAB"
    ),
]

BASE_PATH = "/team/airflow/"


@pytest.fixture(scope="module")
def fab_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow with the users of FAB, and four DAGs with an execution each."""
    import sqlalchemy
    from sqlalchemy.orm import Session

    airflow = ApiServer(
        tmp_path_factory.mktemp("fab"), {"AIRFLOW__CORE__AUTH_MANAGER": AUTH_MANAGER}
    )
    airflow.env["AIRFLOW__API__BASE_URL"] = f"{airflow.url}{BASE_PATH}"
    with airflow:
        engine = sqlalchemy.create_engine(airflow.database)
        with Session(engine) as session:
            add_users(session)
        engine.dispose()
        site = Site(airflow, BASE_PATH, login=("admin", password_of("admin")))
        for number in range(4):
            xcoms = arranged.running()
            xcoms.run["pipeline_name"] = f"pipeline-{number:02}"
            arrange(site, f"retraining_{number:02}", "deferred", xcoms)
        yield site
        site.close()


@pytest.fixture
def sign_in(
    fab_site: Site, new_page: Callable[..., TabPage]
) -> Callable[[str], TabPage]:
    """Returns a function that opens a browser window, and signs a user in."""

    def open_window(user: str) -> TabPage:
        page = new_page(fab_site)
        page.sign_in(user, password_of(user))
        page.console_errors.clear()
        # FAB's page for the sign-in has an error of its own.
        page.script_errors.clear()
        return page

    return open_window


@pytest.mark.parametrize(
    ("user", "visible"), [("editor", [2, 0]), ("viewer", [3, 2, 1, 0])]
)
def test_only_what_the_user_may_see(
    sign_in: Callable[[str], TabPage], user: str, visible: list[int]
) -> None:
    """No row, and no response, has anything of a DAG that the person may not see."""
    page = sign_in(user)
    bodies: list[str] = []

    def record(response: Response) -> None:
        if "/api/v2/dags/" in response.url or "executions-summary" in response.url:
            bodies.append(response.text())

    page.page.on("response", record)

    page.open_executions()

    rows = page.rows()
    assert [row[1].partition(" | ")[0] for row in rows] == [
        f"retraining_{number:02}" for number in visible
    ]
    assert [row[3] for row in rows] == [f"pipeline-{number:02}" for number in visible]
    page.wait_for(f": all {len(visible)}.")
    names = page.tab.locator(".psm-summary tbody th").all_inner_texts()
    assert sorted(names) == [f"pipeline-{number:02}" for number in sorted(visible)]
    hidden = [
        name
        for number in range(4)
        if number not in visible
        for name in (f"retraining_{number:02}", f"pipeline-{number:02}")
    ]
    assert len(bodies) > 2
    assert not any(
        name in text for text in (*bodies, *page.api_requests) for name in hidden
    )
    paths = (f"{BASE_PATH}api/v2/", f"{BASE_PATH}polysync-sagemaker/")
    assert all(any(path in url for path in paths) for url in page.api_requests)
    assert page.console_errors == []


def test_filters_find_no_hidden_dag(sign_in: Callable[[str], TabPage]) -> None:
    """Whoever names a DAG that is hidden learns nothing of it."""
    page = sign_in("editor")

    page.open_executions(f"?dag={HIDDEN[0]}")

    page.wait_for("No execution among these tasks has what the filters ask for.")
    assert page.rows() == []


@pytest.mark.parametrize("user", ["viewer without plugins", "nobody"])
def test_without_a_permission_for_plugins(
    fab_site: Site, sign_in: Callable[[str], TabPage], user: str
) -> None:
    """Airflow shows the page no more than one that does not exist."""
    page = sign_in(user)

    page.page.goto(f"{fab_site.url}{EXECUTIONS}")

    page.page.get_by_text("Page Not Found").wait_for()
    assert page.tab.count() == 0
