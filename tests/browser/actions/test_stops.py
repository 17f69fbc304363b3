"""
What a person sees of a stop: that it is on its way, how it has ended, or since when
nobody knows.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

ASKED = "The stop was requested by the triggerer at 2026-03-01 13:38:00 UTC"
REQUESTED_AT = arranged.START + timedelta(minutes=38)
UNKNOWN, SEEN = "How the stop ended is not known", "nobody has looked since"
CONSOLE = "Its present state is in the AWS console."


def state_of(page: TabPage) -> str:
    """Return the state in the header."""
    text: str = page.tab.get_by_role("status").first.inner_text()
    return text.rsplit(maxsplit=1)[-1]


def test_stop_is_followed(site: Site, timed_page: TabPage) -> None:
    """
    After the end of the task, the page reads on until the execution has ended, and its
    cost is known, and then no more.
    """
    page, task = timed_page, site.new_task("deferred")
    xcoms = arranged.running()
    xcoms.run["stops_with_task"] = True
    site.publish(task, xcoms)
    page.open(task)
    page.wait_for("TrainBest")
    now = arranged.ago(0)
    site.set_state(task, "failed")
    page.page.clock.fast_forward(11_000)
    page.wait_for("The task was ended or cleared, so its execution is stopped.")
    site.publish(task, arranged.being_stopped(now))
    page.page.clock.fast_forward(11_000)
    page.wait_for("The stop was requested by the triggerer")
    assert state_of(page) == "Stopping"
    site.publish(task, arranged.stopped(stop=arranged.stop(now)))

    page.page.clock.fast_forward(11_000)

    page.wait_for("The execution was stopped")
    assert state_of(page) == "Cancelled"
    added_up = {"added_up_at": now.isoformat()}
    site.publish(task, arranged.stopped(stop=arranged.stop(now), **added_up))
    page.page.clock.fast_forward(11_000)
    page.wait_for("The task has ended.")
    reads = page.reads_of_run(task)
    page.page.clock.fast_forward(600_000)
    page.page.wait_for_timeout(500)
    assert page.reads_of_run(task) == reads


def seconds_of(text: str) -> int:
    """Return a duration such as ``5 min 1 s`` in seconds."""
    units = {"h": 3600, "min": 60, "s": 1}
    parts = re.findall(r"(\d+) (h|min|s)\b", text)
    return sum(int(number) * units[unit] for number, unit in parts)


def test_duration_does_not_fall_after_a_stop(site: Site, page: TabPage) -> None:
    """
    Until its end is stored: neither in the tab that was open, nor in one that is opened
    later, nor on the page.
    """
    task, xcoms = site.new_task("deferred"), arranged.running()
    xcoms.run |= {"started_at": arranged.ago(300).isoformat(), "stops_with_task": True}
    site.publish(task, arranged.XComs(xcoms.run))
    written_at = arranged.ago(290).strftime("%Y-%m-%d %H:%M:%S.%f")
    site.set_columns("xcom", task, timestamp=written_at)
    page.open(task)
    page.wait_for("churn-tuning")
    before = seconds_of(page.stat("Duration"))
    # The time of the tab moves on once a second.
    assert before >= 299

    site.set_state(task, "failed")
    page.button("Refresh").click()
    page.wait_for("The task was ended or cleared, so its execution is stopped.")

    assert seconds_of(page.stat("Duration")) >= before
    assert page.tab.locator(".psm-notice", has_text="stopped").count() == 1
    page.open(task)
    page.wait_for("churn-tuning")
    assert seconds_of(page.stat("Duration")) >= before
    page.open_executions(f"?dag={task.dag_id}&since=1h")
    (row,) = [row for row in page.rows() if row[1].endswith(task.run_id)]
    assert seconds_of(row[5]) >= before


def test_a_day_later_the_execution_is_stopped(site: Site, page: TabPage) -> None:
    """State, time of the end, who has requested the stop, when, and why."""
    task = site.new_task("failed")
    site.publish(task, arranged.stopped(stop=arranged.stop(REQUESTED_AT)))

    page.open(task)
    page.wait_for("The execution was stopped")

    assert (state_of(page), page.stat("AWS status")) == ("Cancelled", "Stopped")
    assert page.stat("Ended") == "2026-03-01 13:38:06 UTC"
    page.wait_for(f"{ASKED}, because somebody, or the DAG run, ended the task.")
    assert UNKNOWN not in page.text()


@pytest.mark.parametrize(
    ("fields", "state", "texts"),
    [
        (
            {},
            "Stopping",
            (
                UNKNOWN,
                "AWS has accepted it.",
                "at 2026-03-01 13:38:01 UTC (Stopping)",
                SEEN,
                CONSOLE,
            ),
        ),
        (
            {"result": "requested", "seen_at": None, "process": "worker"},
            "Stopping",
            (
                UNKNOWN,
                "requested by the worker at",
                "What AWS has answered is not known.",
                CONSOLE,
            ),
        ),
        (
            {"error": "<b>not</b> allowed"},
            "Stopping",
            (UNKNOWN, "<b>not</b> allowed", CONSOLE),
        ),
        (
            {
                "result": "failed",
                "error": "<b>not</b> you",
                "seen_at": None,
                "reason": "timeout",
            },
            "Unknown",
            (
                "The stop failed",
                "<b>not</b> you",
                "because the time of the task was up",
                "may still be running",
            ),
        ),
        # Edited by somebody.
        (
            {
                "result": 7,
                "reason": "<i>",
                "process": ["x"],
                "seen_at": "soon",
                "error": {},
            },
            "Stopping",
            (
                UNKNOWN,
                "The stop was requested at 2026-03-01 13:38:00 UTC. What AWS has",
            ),
        ),
        ({"requested_at": "yesterday"}, "Unknown", ("This is the last known state",)),
    ],
)
def test_a_day_later_nobody_knows(
    fields: dict[str, Any],
    state: str,
    texts: tuple[str, ...],
    site: Site,
    page: TabPage,
) -> None:
    """
    The time of the request, the last status with its time, and what went wrong, as
    texts.
    """
    task, xcoms = site.new_task("failed"), arranged.being_stopped(REQUESTED_AT)
    xcoms.run["stop"] |= fields
    if state == "Unknown":
        xcoms.run["status"] = "Executing"
    site.publish(task, xcoms)

    page.open(task)
    for text in texts:
        page.wait_for(text)

    assert state_of(page) == state
    assert page.tab.locator("b, i").count() == 0


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ("Success", "The execution succeeded before its stop"),
        ("Failed", "The execution failed"),
    ],
)
def test_stop_that_came_too_late(
    state: str, title: str, site: Site, page: TabPage
) -> None:
    """The execution has ended otherwise."""
    task, xcoms = site.new_task("failed"), arranged.success()
    site.publish(
        task,
        arranged.XComs(
            {**xcoms.run, "state": state, "stop": arranged.stop(REQUESTED_AT)}
        ),
    )

    page.open(task)

    page.wait_for(title)
    page.wait_for(ASKED)
