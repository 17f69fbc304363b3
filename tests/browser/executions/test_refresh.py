"""When the page reads again, and what it says if it cannot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.executions.test_rows import NONE, arrange
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = [pytest.mark.system, NEEDS_TABS]

LIST = r"/taskInstances\?"


@pytest.fixture
def page(timed_page: TabPage) -> TabPage:
    """The browser window whose clock tests move on."""
    return timed_page


def lists_of(page: TabPage) -> int:
    """Return how often the page has read the list of tasks."""
    return sum("/taskInstances?" in url for url in page.api_requests)


def test_new_data_appear(site: Site, page: TabPage) -> None:
    """
    While something runs, the page is read every 10 s; then once a minute, and XComs
    that are final no more.
    """
    task = arrange(site, "retraining_03", "deferred", arranged.running())
    page.open_executions("?dag=retraining_03&state=Running")
    assert [row[0] for row in page.rows()] == ["▶ | Running"]
    page.open_executions("?dag=retraining_03&since=1h")
    assert page.rows()[0][0] == "▶ | Running"
    site.publish(task, arranged.success())
    site.set_state(task, "success")

    page.page.clock.fast_forward(11_000)

    page.wait_for("30 min 23 s")
    assert page.rows()[0][6] == "5 of 5"
    lists = lists_of(page)
    page.page.clock.fast_forward(11_000)
    page.page.wait_for_timeout(500)
    assert lists_of(page) == lists
    page.api_requests.clear()
    with page.page.expect_response(re.compile(LIST)):
        page.page.clock.fast_forward(50_000)
    page.rows()
    assert [url for url in page.api_requests if "/xcoms?" in url] == []


def test_slow(page: TabPage) -> None:
    """Whoever waits learns for how long Airflow has not responded."""
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        waiting.append(route)

    page.page.route(re.compile(LIST), wait)
    page.open_executions("?dag=retraining_03")
    page.wait_for("Loading …")

    page.page.clock.run_for(5_000)

    page.wait_for(re.compile(r"Airflow's API has not responded for [4-6] s\."))
    for route in waiting:
        route.abort()


def test_errors_keep_the_rows(site: Site, page: TabPage) -> None:
    """After an error the rows remain, with their age."""
    arrange(site, "retraining_03", "deferred", arranged.running())
    page.open_executions("?dag=retraining_03")
    page.rows()
    page.answer(LIST, 500, {"detail": "database is locked"})

    page.page.clock.fast_forward(11_000)

    page.wait_for("HTTP status 500: database is locked")
    page.wait_for(re.compile(r" old\. Next attempt in 1\d s\."))
    assert page.rows()[0][0] == "▶ | Running"


def test_a_part_may_fail(site: Site, page: TabPage) -> None:
    """What could not be read is missing, and the page says so."""
    arrange(site, "retraining_03", "deferred", arranged.running())
    page.answer(r"/xcoms\?.*key=steps$", 500, {"detail": "database is locked"})

    page.open_executions("?dag=retraining_03&state=Running")

    assert page.rows()[0][6] == NONE
    page.wait_for(
        re.compile(
            r"^\d+ requests? failed, the first with: HTTP status 500: database is locked"
        )
    )


@pytest.mark.parametrize(
    ("pattern", "status", "body", "expected"),
    [
        (
            LIST,
            200,
            {"task_instances": [], "total_entries": 0},
            "No task that starts a pipeline has run yet",
        ),
        (
            LIST,
            200,
            {"task_instances": 7},
            "No task that starts a pipeline has run yet",
        ),
        (LIST, 403, {"detail": "Forbidden"}, "No permission to see executions"),
        (
            LIST,
            401,
            {"detail": "Not authenticated"},
            "Your session has ended: reload the page to sign in.",
        ),
        (r"/xcoms\?", 200, {"is_allowed": False}, "No permission to read XComs"),
    ],
)
def test_nothing_to_show(
    site: Site, page: TabPage, pattern: str, status: int, body: object, expected: str
) -> None:
    """Each reason has a sentence."""
    arrange(site, "retraining_03", "success", arranged.success())
    page.answer(pattern, status, body)

    page.open_executions()

    page.wait_for(expected)
