"""
The tab in an Airflow that requires a login and runs under a path of a reverse proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from polysync_airflow.ui.app import read_files
from tests.browser import arranged
from tests.browser.airflow_site import PASSWORDS, ApiServer, Site, login_settings
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, pytest.mark.nightly, NEEDS_TABS]

BASE_PATH = "/team/airflow/"


@pytest.fixture(scope="module")
def guarded_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An Airflow with an administrator and a viewer."""
    home = tmp_path_factory.mktemp("guarded")
    airflow = ApiServer(home, login_settings(home))
    airflow.env["AIRFLOW__API__BASE_URL"] = f"{airflow.url}{BASE_PATH}"
    with airflow:
        site = Site(airflow, BASE_PATH, login=("ann", PASSWORDS["ann"]))
        yield site
        site.close()


def test_viewer_sees_the_tab(
    guarded_site: Site, new_page: Callable[..., TabPage]
) -> None:
    """The session of a viewer is enough for the files of the tab and for its data."""
    task = guarded_site.new_task("success")
    guarded_site.publish(task, arranged.success())
    page = new_page(guarded_site)
    page.sign_in("vic", PASSWORDS["vic"])

    page.open(task)

    page.wait_for("Notify")
    assert page.stat("AWS status") == "Succeeded"
    assert all(f"{BASE_PATH}api/v2/" in url for url in page.api_requests)


def test_files_need_a_login(guarded_site: Site) -> None:
    """
    Without a session, no file is sent, and an unknown file looks the same as a known
    one.
    """
    bundle = guarded_site.bundle_path()
    assert bundle.startswith(f"{BASE_PATH}polysync-sagemaker/")
    folder = bundle.removeprefix(BASE_PATH).rpartition("/")[0]

    statuses = {
        name: guarded_site.status_of(f"{folder}/{name}")
        for name in [*read_files(), "unknown.js"]
    }

    assert set(statuses.values()) == {401}
