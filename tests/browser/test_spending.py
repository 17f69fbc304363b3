"""What the tab and the page say of what tasks cost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]


def test_running_execution_has_what_was_spent_the_limit_and_the_rate(
    site: Site, page: TabPage
) -> None:
    """With the dearest step, and what is not counted."""
    task = site.new_task("deferred")
    site.publish(task, arranged.running())
    spending = {
        # Later than now, so that nothing is added.
        "at": "2099-01-01T00:00:00Z",
        "amount": 12.5,
        "max_cost": 30.0,
        "currency": "USD",
        "prices_date": "2026-11-01",
        "per_hour": 7200.0,
        "dearest_step": "Tune",
        "note": "Not counted: Lambda functions (Notify).",
    }
    site.write_xcom(task, "spending", spending)

    page.open(task)
    page.wait_for("TrainBest")

    assert page.stat("Spent, as estimated").split("\n") == [
        "12.50 USD of at most 30.00 · 7200.00 an hour · dearest step: Tune",
        "Not counted: Lambda functions (Notify).",
    ]


def test_task_that_has_spent_its_limit_says_so(site: Site, page: TabPage) -> None:
    """In its tab and on the page, also if its last try has started nothing."""
    spent = {
        "at": "2026-03-01T14:00:00Z",
        "amount": 30.8,
        "max_cost": 30.0,
        "currency": "USD",
        "prices_date": "2026-11-01",
        "per_hour": 0.0,
        "dearest_step": "Tune",
    }
    # What the execution cost, without what was spent before.
    cost = {"amount": 20.1, "currency": "USD", "prices_date": "2026-11-01"}
    task = site.new_task("failed")
    reason = "Nothing was started: An estimated 30.80 USD are spent."
    run = arranged.run(
        "Failed",
        "Failed",
        start=arranged.START,
        message=reason,
        spending=spent,
        cost=cost,
        added_up_at=spent["at"],
    )
    run["pipeline_name"] = "too-expensive"
    site.publish(task, arranged.XComs(run))

    page.open(task)

    text = "30.80 USD of at most 30.00 · as of 14:00:00 UTC · dearest step: Tune"
    page.wait_for(reason)
    assert page.stat("Spent, as estimated") == text
    assert "20.10 USD" not in page.text()
    page.open_executions(f"?dag={task.dag_id}&pipeline=too-expensive")
    (row,) = page.rows()
    assert row[7].endswith(" | Spent: 30.80 USD of at most 30.00")
    assert page.tab.get_by_title(text).count() == 1
    assert "20.10 USD" not in row[7]


def test_ended_execution_has_its_cost_with_its_time_or_the_last_estimate(
    site: Site, page: TabPage
) -> None:
    """
    The last estimate is shown until somebody has added up, or if nobody has seen the
    end, as after a mark of a task on a worker that was killed at once.
    """
    spent = {
        "at": "2026-03-01T13:59:00Z",
        "amount": 0.9,
        "max_cost": 1.0,
        "currency": "USD",
        "prices_date": "2026-11-01",
    }
    cost = {**spent, "amount": 0.7}
    added_up: Any = {"cost": cost, "added_up_at": "2026-03-01T14:00:00Z"}
    unlimited = site.new_task("failed")
    run = arranged.run("Cancelled", "Stopped", start=arranged.START, **added_up)
    site.publish(unlimited, arranged.XComs(run))
    limited = site.new_task("failed")
    stop = {"requested_at": arranged.ago(9).isoformat(), "result": "accepted"}
    stop["seen_at"] = arranged.ago(0).isoformat()
    run = arranged.run("Cancelled", "Stopped", start=arranged.START, stop=stop)
    site.publish(limited, arranged.XComs(run))
    site.write_xcom(limited, "spending", spent)

    page.open(unlimited)
    page.wait_for("0.70 USD · as of 14:00:00 UTC · prices of 2026-11-01")
    page.open(limited)
    page.wait_for("0.90 USD of at most 1.00 · as of 13:59:00 UTC")
    run |= added_up
    run["spending"] = {**spent, "amount": 0.7, "at": run["added_up_at"]}
    site.publish(limited, arranged.XComs(run))

    page.wait_for("0.70 USD of at most 1.00 · as of 14:00:00 UTC")
    assert "0.90" not in page.text()


def test_page_shows_the_dearest_executions_first(site: Site, page: TabPage) -> None:
    """A button sorts the rows of the page, and brings back their order."""
    for amount in (100.0, 3000.0, 1200.0):
        task = site.new_task("success")
        cost = {"amount": amount, "currency": "USD", "prices_date": "2026-11-01"}
        xcoms = arranged.measured(0.9, cost=cost)
        xcoms.run["pipeline_name"] = "by-cost"
        site.publish(task, xcoms)

    page.open_executions(f"?dag={task.dag_id}&pipeline=by-cost")
    newest = [row[7] for row in page.rows()]
    button = page.page.get_by_role("button", name="Billable time, cost")
    button.click()
    dearest = [row[7] for row in page.rows()]
    button.click()

    assert [text.split(" | ")[-1] for text in dearest] == [
        "3000.00 USD",
        "1200.00 USD",
        "100.00 USD",
    ]
    assert [row[7] for row in page.rows()] == newest
