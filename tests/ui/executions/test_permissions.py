"""
The page of a person who may see some DAGs only, in an Airflow that runs under a path of
a reverse proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ui import arranged
from tests.ui.airflow_site import NEEDS_TABS, PASSWORDS, ApiServer, Site, login_settings
from tests.ui.executions.test_rows import arrange
from tests.ui.tab_page import TabPage

if TYPE_CHECKING:
    from playwright.sync_api import Response

pytestmark = [pytest.mark.system, pytest.mark.nightly, NEEDS_TABS]

BASE_PATH = "/team/airflow/"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def half_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow whose viewer may see half of the DAGs, each with an execution."""
    home = tmp_path_factory.mktemp("half")
    manager = "tests.ui.executions.auth_manager.HalfAuthManager"
    airflow = ApiServer(
        home, {**login_settings(home), "AIRFLOW__CORE__AUTH_MANAGER": manager}
    )
    airflow.env |= {
        "AIRFLOW__API__BASE_URL": f"{airflow.url}{BASE_PATH}",
        "PYTHONPATH": str(ROOT),
    }
    with airflow:
        site = Site(airflow, BASE_PATH, login=("ann", PASSWORDS["ann"]))
        for number in range(4):
            xcoms = arranged.running()
            xcoms.run["pipeline_name"] = f"pipeline-{number:02}"
            arrange(site, f"retraining_{number:02}", "deferred", xcoms)
        yield site
        site.close()


@pytest.mark.parametrize(("name", "visible"), [("vic", [2, 0]), ("ann", [3, 2, 1, 0])])
def test_only_what_the_viewer_may_see(
    half_site: Site, new_page: Callable[..., TabPage], name: str, visible: list[int]
) -> None:
    """No row, and no response, has anything of a DAG that the person may not see."""
    page = new_page(half_site)
    page.sign_in(name, PASSWORDS[name])
    bodies: list[str] = []

    def record(response: Response) -> None:
        if "/taskInstances" in response.url:
            bodies.append(response.text())

    page.page.on("response", record)
    page.console_errors.clear()

    page.open_executions()

    rows = page.rows()
    assert [row[1].partition(" | ")[0] for row in rows] == [
        f"retraining_{number:02}" for number in visible
    ]
    assert [row[3] for row in rows] == [f"pipeline-{number:02}" for number in visible]
    page.wait_for(f": 1 to {len(visible)} of {len(visible)}.")
    hidden = [f"retraining_{number:02}" for number in range(4) if number not in visible]
    assert len(bodies) > 2
    assert not any(
        dag_id in text for text in (*bodies, *page.api_requests) for dag_id in hidden
    )
    assert all(f"{BASE_PATH}api/v2/" in url for url in page.api_requests)
    assert page.console_errors == []


def test_filters_find_no_hidden_dag(
    half_site: Site, new_page: Callable[..., TabPage]
) -> None:
    """Whoever names a DAG that is hidden learns nothing of it."""
    page = new_page(half_site)
    page.sign_in("vic", PASSWORDS["vic"])

    page.open_executions("?dag=retraining_01")

    page.wait_for("No execution among these tasks has what the filters ask for.")
    assert page.rows() == []
