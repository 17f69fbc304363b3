"""What the tab and the page say of what comes next for a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import DAG, Site
from tests.browser.tab_page import TabPage
from tests.browser.test_capacity import BEFORE_START, WAIT
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

MAX_TRIES = 2
PLAN: dict[str, Any] = {"try_number": 1, "max_tries": MAX_TRIES}
RETRY = {"does": "resume", "at": "2099-01-01T03:14:00+00:00"}
FAILED: dict[str, Any] = {"clear": "start", "resumable": True, "repeats": 3, "steps": 4}
UNTIL = "2099-01-01T04:10:00+00:00"
ASKS = WAIT | {"asks_at": "2099-01-01T03:20:00Z"}
RESUMES = "2 of 3 resumes the failed steps (3 of 4)"
# By the state of the task: the plan of its last try, what else is in ``run``, whether
# the DAG is paused, and what is said.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool, str]] = {
    "retry": (
        "up_for_retry",
        FAILED | {"retry": RETRY},
        arranged.failure().run,
        False,
        f"Next: Try {RESUMES} at 2099-01-01 03:14:00 UTC.",
    ),
    "capacity": (
        "deferred",
        {"until": UNTIL},
        BEFORE_START | {"capacity": ASKS},
        False,
        "Next: AWS is asked again at 2099-01-01 03:20:00 UTC. The task gives up at"
        " 2099-01-01 04:10:00 UTC. To give up now, mark the task failed.",
    ),
    "paused": (
        "up_for_retry",
        FAILED | {"retry": RETRY},
        arranged.failure().run,
        True,
        f"Next: When the DAG is unpaused, try {RESUMES}.",
    ),
    "failed": (
        "failed",
        FAILED,
        arranged.failure().run,
        False,
        'Next: Nothing follows by itself: the task has failed. "Resume failed steps"'
        " repeats 3 of 4 steps, and a clear starts a new execution.",
    ),
}


@pytest.fixture
def unpaused(site: Site) -> Iterator[None]:
    """The DAG is paused again, as that of the other tests."""
    yield
    site.pause(DAG, is_paused=True)


@pytest.mark.usefixtures("unpaused")
@pytest.mark.parametrize("case", CASES)
def test_what_comes_next_is_in_tab_and_page(
    case: str, site: Site, page: TabPage
) -> None:
    """In one line, the same in both, which does not widen the table."""
    state, plan, run, is_paused, line = CASES[case]
    task = site.new_task(state)
    site.pause(DAG, is_paused=is_paused)
    site.set_columns("task_instance", task, max_tries=MAX_TRIES)
    site.write_xcom(task, "run", run | {"next": PLAN | plan})

    page.open(task)
    page.wait_for(arranged.PIPELINE)
    assert page.next_lines() == [line]

    page.page.set_viewport_size({"width": 1280, "height": 900})
    page.open_executions(f"?dag={DAG}&since=1h")
    page.rows()
    link = page.page.locator(f'a[href*="{quote(task.run_id, safe="")}"]').first
    row = page.tab.locator(".psm-executions tr", has=link)
    assert row.locator("xpath=following-sibling::tr[1]").inner_text() == line
    widths = page.tab.locator(".psm-scroll").evaluate(
        """element => {
          const width = element.scrollWidth;
          element.querySelectorAll(".psm-next-row").forEach(row => row.remove());
          return [width, element.scrollWidth];
        }"""
    )
    assert widths[0] == widths[1]


def test_task_without_an_execution_says_what_comes_next(
    site: Site, page: TabPage
) -> None:
    """The scheduler has not seen it yet, and its DAG is paused."""
    site.pause(DAG, is_paused=True)
    task = site.new_task(None, try_number=0)

    page.open(task)

    page.wait_for("The task has not started yet")
    (line,) = page.next_lines()
    assert line.startswith("Next: When the DAG is unpaused, try 1 of ")
    assert line.endswith(" starts an execution.")


def test_what_the_server_says_is_text_and_bounded(site: Site, page: TabPage) -> None:
    """Unknown shapes are left out, long texts are cut, and nothing is markup."""
    task = site.new_task("deferred")
    site.publish(task, arranged.running())
    sentences = [
        {"text": "<b>bold</b>\u202e", "at": "soon"},
        {"text": 7, "at": "2100-01-01T00:00:00Z"},
        "a text",
        {"text": "x" * 1000, "at": None},
        None,
        {"text": "the sixth"},
    ]
    run = {"text": "{}", "written_at": "2026-03-01T13:00:00Z"}
    body = {"is_allowed": True, "xcoms": {"run": run}, "next": sentences}
    page.answer(r"/xcoms\?", 200, body)

    page.open(task)
    page.wait_for("<b>bold</b>")

    (line,) = page.next_lines()
    assert line == f"Next: <b>bold</b>\ufffd. {'x' * 299}…."
    assert page.tab.locator("b").count() == 0
