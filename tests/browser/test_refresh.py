"""
When the tab reads its data again. The clock of the page is moved on, so no test waits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

if TYPE_CHECKING:
    from playwright.sync_api import Route

pytestmark = [pytest.mark.system, NEEDS_TABS]

SERVER_ERROR = {"detail": "database is locked"}


@pytest.fixture
def page(timed_page: TabPage) -> TabPage:
    """The browser window whose clock tests move on."""
    return timed_page


@pytest.fixture
def task(site: Site, page: TabPage) -> Task:
    """A running task, whose tab is open, on a page whose clock the test can move."""
    task = site.new_task("deferred")
    site.publish(task, arranged.running())
    page.open(task)
    page.wait_for("TrainBest")
    return task


def test_new_data_appear(site: Site, page: TabPage, task: Task) -> None:
    """
    Ten seconds later the tab shows what the task has published meanwhile; after the
    end, it reads no more.
    """
    site.publish(task, arranged.success())
    site.set_state(task, "success")

    page.page.clock.fast_forward(11_000)

    page.wait_for("Notify")
    page.wait_for("The task has ended.")
    reads = page.reads_of_run(task)
    page.page.clock.fast_forward(600_000)
    page.page.wait_for_timeout(500)
    assert page.reads_of_run(task) == reads
    assert page.is_open("Notify") is False


def test_ended_task_has_the_end_of_its_execution(site: Site, page: TabPage) -> None:
    """
    The task may end while its state is read. It has stored the end of its execution
    before.
    """
    task = site.new_task("deferred")
    site.publish(task, arranged.running())

    def end(route: Route) -> None:
        site.publish(task, arranged.success())
        site.set_state(task, "success")
        route.continue_()

    page.page.route(re.compile(f"/taskInstances/{task.task_id}$"), end, times=1)

    page.open(task)

    page.wait_for("Notify")
    assert page.stat("AWS status") == "Succeeded"


def test_opened_steps_stay_open(site: Site, page: TabPage, task: Task) -> None:
    """A refresh closes no step that a person has opened."""
    page.button("Tune").click()
    site.publish(task, arranged.running())

    with page.page.expect_response(re.compile(r"/xcoms\?.*key=steps")):
        page.page.clock.fast_forward(11_000)

    page.wait_for("Updated")
    assert page.is_open("Tune")


def test_duration_and_age_count_on(page: TabPage, task: Task) -> None:
    """
    The duration of a running step and the age of the data go on between two refreshes.
    """
    before = page.stat("Duration")
    page.answer("/api/v2/", 200, {})

    page.page.clock.run_for(5_000)

    assert page.stat("Duration") != before
    page.wait_for(re.compile("Updated [5-9] s ago"))


def test_hidden_pages_read_nothing(site: Site, page: TabPage, task: Task) -> None:
    """
    A hidden page sends no request. When it is shown again, it reads at once, also after
    the end of the task.
    """
    reads = page.reads_of_run(task)
    page.hide(True)
    page.page.clock.fast_forward(60_000)
    page.page.wait_for_timeout(500)
    assert page.reads_of_run(task) == reads
    site.publish(task, arranged.success())

    page.hide(False)

    page.wait_for("Notify")


def test_errors_keep_the_data_and_back_off(page: TabPage, task: Task) -> None:
    """
    After an error the old data remain, with their age; the next attempt comes after 20,
    then after 40 seconds.
    """
    page.answer("/taskInstances/train", 500, SERVER_ERROR)

    page.page.clock.fast_forward(11_000)
    page.wait_for("HTTP status 500: database is locked")
    assert "TrainBest" in page.text()
    page.wait_for(re.compile(r" old\. Next attempt in 1\d s\."))
    page.page.clock.fast_forward(21_000)
    page.wait_for(re.compile(r"Next attempt in 3\d s\."))
    page.answer_no_more()
    page.button("Retry now").click()

    page.tab.get_by_role("alert").wait_for(state="detached")
    assert "TrainBest" in page.text()


def test_ended_sessions_are_named(page: TabPage, task: Task) -> None:
    """If the session has ended, the tab says what to do, and sends no more requests."""
    page.answer(f"{task.task_id}$", 401, {"detail": "Not authenticated"})

    page.page.clock.fast_forward(11_000)

    page.wait_for("Your session has ended: reload the page to sign in.")
    reads = page.reads_of_run(task)
    page.page.clock.fast_forward(600_000)
    page.page.wait_for_timeout(500)
    assert page.reads_of_run(task) == reads
