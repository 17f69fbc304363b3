"""The summary above the executions of the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.executions.test_rows import NONE, arrange
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

DAG = "churn_retraining"
SUMMARY = "Executions by pipeline"
CHURN, MARKUP = "summary-churn", "summary-<b>x"


def cost(amount: float) -> dict[str, Any]:
    """Return the cost of an execution."""
    fields = {"amount": amount, "currency": "USD", "prices_date": "2026-11-01"}
    return {**fields, "note": None}


@pytest.fixture(scope="module")
def day(site: Site) -> str:
    """Executions of two pipelines on two days; returns the second one."""
    today = arranged.ago(60)
    for days, seconds in ((1, 600), (1, 1200), (0, 3600)):
        start = today - timedelta(days=days)
        xcoms = arranged.measured(0.9, start=start, seconds=seconds, cost=cost(0.5))
        xcoms.run["pipeline_name"] = CHURN
        arrange(site, DAG, "success", xcoms)
    failed = arranged.failure()
    failed.run |= {"pipeline_name": CHURN, "started_at": today.isoformat()}
    arrange(site, DAG, "failed", failed)
    other = arranged.running()
    other.run["pipeline_name"] = MARKUP
    arrange(site, DAG, "deferred", other)
    return today.date().isoformat()


def test_summary_of_each_pipeline(day: str, page: TabPage) -> None:
    """
    How many executions there were, how many have failed, how long the others took, what
    they cost, and a bar for each day, with a text. The rows are read before.
    """
    urls: list[str] = []
    page.page.on("request", lambda request: urls.append(request.url))
    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")
    page.wait_for("By day, ")
    page.rows()
    assert "/xcoms?" not in "".join(urls).partition("executions-summary")[2]

    _, *rows = page.table(SUMMARY)

    assert [row[:5] for row in rows] == [
        [CHURN, "4", "1", "20 min", "1.50 USD"],
        [MARKUP, "1", "0", NONE, NONE],
    ]
    chart = page.tab.get_by_role("img", name=re.compile(f"{day}: 2, 1 failed"))
    assert chart.locator("title").all_text_contents()[-1] == f"{day}: 2, 1 failed"
    assert page.tab.locator("b").count() == 0


@pytest.mark.usefixtures("day")
def test_narrow_window(site: Site, new_page: Callable[..., TabPage]) -> None:
    """No word of the head is broken: who has no room for all columns can scroll."""
    page = new_page(site, viewport={"width": 420, "height": 900})
    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")
    page.wait_for("By day, ")

    heights = page.tab.locator(".psm-summary thead th").evaluate_all(
        "cells => cells.map(cell => cell.getBoundingClientRect().height)"
    )
    assert max(heights) < 24


@pytest.mark.usefixtures("day")
def test_a_click_filters(page: TabPage) -> None:
    """By the pipeline, or by its failures. The summary is not read again."""
    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")
    page.wait_for("By day, ")
    urls: list[str] = []
    page.page.on("request", lambda request: urls.append(request.url))

    page.button(f"1: show those of {CHURN}").click()
    page.page.wait_for_url("**state=Failed**")
    assert [row[3] for row in page.rows()] == [CHURN]
    page.button(f"{CHURN}: show").click()
    page.page.wait_for_url(re.compile(f"pipeline={CHURN}&since=1h$"))

    assert len(page.rows()) == 4
    assert [row[0] for row in page.table(SUMMARY)[1:]] == [CHURN]
    assert [url for url in urls if "executions-summary" in url] == []


def test_what_is_left_out_is_said(page: TabPage) -> None:
    """Of more pipelines, or more executions, than the summary has."""
    pipeline = {"name": CHURN, "runs": 1, "days": {"2026-11-30": [1, 0]}}
    body = {"pipelines": [pipeline], "more_pipelines": 7, "newest_only": 10_000}
    page.answer("/executions-summary", 200, {**body, "left_out": 3})

    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")

    page.wait_for(
        "Not shown: 7 more pipelines with fewer failures or lower costs; 3 executions"
        " whose XComs “run” are too large; executions before the newest 10,000."
    )


@pytest.mark.usefixtures("day")
def test_busy_server_is_asked_again(timed_page: TabPage) -> None:
    """The page says why there is no summary yet, and shows it when it comes."""
    page = timed_page
    page.answer("/executions-summary", 429, {}, {"Retry-After": "3"})
    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")
    page.wait_for("The summary comes later: ")
    assert len(page.rows()) >= 5
    page.answer_no_more()

    page.page.clock.fast_forward(7_000)

    page.wait_for("By day, ")
    assert page.tab.get_by_text("The summary comes later: ").count() == 0


@pytest.mark.usefixtures("day")
def test_summary_is_read_again_after_a_minute(timed_page: TabPage) -> None:
    """With the rows, so that both have what has ended since."""
    page = timed_page
    pipeline = {"name": CHURN, "runs": 9, "failures": 0, "days": {"2026-11-30": [9, 0]}}
    page.answer("/executions-summary", 200, {"pipelines": [pipeline]})
    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")
    page.wait_for("By day, ")
    page.rows()
    more = {**pipeline, "failures": 7, "days": {"2026-11-30": [9, 7]}}
    page.answer("/executions-summary", 200, {"pipelines": [more]})

    page.page.clock.fast_forward(20_000)
    page.rows()
    assert page.button("7: show those of").count() == 0
    page.page.clock.fast_forward(50_000)

    page.button("7: show those of").wait_for()


@pytest.mark.usefixtures("day")
@pytest.mark.parametrize(
    ("status", "body"),
    [(403, {"detail": "Forbidden"}), (200, {"pipelines": [{"name": 7}, None]})],
)
def test_rows_are_there_without_a_summary(
    page: TabPage, status: int, body: Any
) -> None:
    """It is an extra."""
    page.answer("/executions-summary", status, body)

    page.open_executions(f"?dag={DAG}&since=1h&pipeline=summary-")

    assert len(page.rows()) >= 5
    assert page.tab.get_by_role("table", name=SUMMARY).count() == 0
