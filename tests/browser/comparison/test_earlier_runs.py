"""
What steps have measured and used, beside the same of earlier runs of the task, in a
browser, in a real Airflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, pytest.mark.nightly, NEEDS_TABS]

TEXTS = ".psm-chart span, .psm-chart-line, .psm-choice, .psm-select, .psm-table :is(th, td), dd, a, h2, .psm-mark"


def ended(
    site: Site,
    task_id: str,
    xcoms: arranged.XComs,
    *,
    state: str = "success",
    index: int = -1,
) -> Task:
    """Return a task of a new DAG run that has ended."""
    task = site.new_task(state, task_id, map_index=index)
    site.publish(task, xcoms)
    return task


def open_earlier_runs(page: TabPage, task: Task) -> None:
    """Open the tab, and wait until the earlier runs are there."""
    page.open(task)
    page.tab.get_by_role("region", name="Earlier runs").wait_for()


def test_results_are_shown_beside_those_of_the_last_successful_run(
    site: Site, page: TabPage
) -> None:
    """
    The last one is neither later nor failed, has the same map index, and its execution
    has succeeded.
    """
    task_id = "tune_each"
    ended(site, task_id, arranged.measured(0.5, seconds=9000), index=0)
    last = ended(
        site, task_id, arranged.measured(0.9, seconds=1519, billable=600), index=0
    )
    ended(site, task_id, arranged.measured(0.6), index=1)
    ended(site, task_id, arranged.measured(0.7), state="failed", index=0)
    ended(
        site,
        task_id,
        arranged.measured(0.75, state="Failed", status="CompletedWithFailures"),
        index=0,
    )
    site.new_task("success", task_id, map_index=0)
    not_counted = "Not counted: Lambda functions (Notify)."
    cost = {
        "amount": 0.6824,
        "currency": "USD",
        "prices_date": "2026-11-01",
        "note": not_counted,
    }
    xcoms = arranged.measured(0.91, cost=cost)
    xcoms.steps[1]["type"] = "Tuning"
    xcoms.steps[0]["reused_from"] = arranged.ARN.replace("k3m9x2p7q1ab", "a1b2c3d4e5f6")
    task = ended(site, task_id, xcoms, index=0)
    ended(site, task_id, arranged.measured(0.99), index=0)

    open_earlier_runs(page, task)

    assert page.stat("Duration").split("\n") == [
        "30 min 23 s",
        "last successful run: 25 min 19 s, now +5 min 4 s (+20 %)",
    ]
    assert page.stat("Billable time").split("\n") == [
        "22 min 48 s \N{MIDDLE DOT} ml.g5.xlarge: 18 min, ml.m5.xlarge: 4 min 48 s",
        "last successful run: 24 min 48 s, now -2 min (-8.1 %)",
    ]
    assert page.stat("Estimated cost").split("\n") == [
        "0.68 USD \N{MIDDLE DOT} prices of 2026-11-01",
        not_counted,
    ]
    assert "validation:auc: 0.91" in page.step_texts()[1]
    page.button("Train").click()
    assert page.table("Metrics of Train") == [
        ["Metric", "This run", "Last successful run", "Difference"],
        ["validation:auc", "0.91", "0.9", "+0.01 (+1.1 %)"],
        ["train:logloss", "0.211385", "0.211385", "the same"],
    ]
    billed = "18 min \N{MIDDLE DOT} 2 \N{MULTIPLICATION SIGN} ml.g5.xlarge, 9 min each"
    assert (
        f"{billed} \N{MIDDLE DOT} 64 % saved by spot instances \N{MIDDLE DOT} of all its training jobs together"
        in page.text()
    )
    assert "last successful run: 20 min, now -2 min (-10 %)" in page.text()
    page.button("Preprocess").click()
    page.wait_for(
        "4 min 48 s \N{MIDDLE DOT} ml.m5.xlarge \N{MIDDLE DOT} paid by an earlier execution"
    )
    outputs = [name for name, _ in page.table("Outputs of Train")]
    assert outputs == ["training_job_arn", "model_artifact"]
    page.tab.get_by_role("link", name=last.run_id).click()
    page.page.wait_for_url(f"**/runs/{quote(last.run_id, safe='')}/**")
    page.tab.get_by_text("validation:auc: 0.9", exact=True).wait_for()
    # A user has marked the last but two as successful: only the request itself can say
    # that it has no XComs.
    assert len(page.not_found) == 1
    page.not_found.clear()


def test_costs_of_earlier_runs_are_shown_before_the_end(
    site: Site, page: TabPage
) -> None:
    """
    The tab has what the last three successful runs cost while a task waits and runs,
    for four requests, and beside the cost of its own at the end.
    """

    def cost(amount: float, currency: str = "USD") -> dict[str, Any]:
        return {"amount": amount, "currency": currency, "prices_date": "2026-11-01"}

    task_id = "train_eu"
    for amount, currency in ((99, "USD"), (5, "EUR"), (14, "USD"), (12.1, "USD")):
        ended(site, task_id, arranged.measured(0.9, cost=cost(amount, currency)))
    task = site.new_task("queued", task_id)
    costs = "last 2 successful runs: 12.10 to 14.00 USD"

    page.open(task)
    page.wait_for(f"Estimated cost of the {costs}")
    own = quote(task.run_id, safe="")
    earlier = [url for url in page.api_requests if own not in url]
    requests = [url for url in earlier if re.search(r"/dagRuns/~/|/xcoms\?", url)]
    assert len(requests) == 1 + 3
    site.publish(task, arranged.running())
    site.set_state(task, "deferred")
    page.button("Refresh").click()
    page.wait_for("TrainBest")
    assert page.stat("Estimated cost") == costs
    assert page.tab.get_by_role("region", name="Earlier runs").count() == 0
    site.publish(task, arranged.measured(0.91, cost=cost(13)))
    site.set_state(task, "success")
    page.button("Refresh").click()
    page.tab.get_by_role("region", name="Earlier runs").wait_for()

    assert page.stat("Estimated cost").split("\n") == [
        "13.00 USD \N{MIDDLE DOT} prices of 2026-11-01",
        costs,
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_chart(site: Site, new_page: Callable[..., TabPage], scheme: str) -> None:
    """
    A value of the last ten runs is drawn and in a table, with this run marked; readable
    in both modes.
    """
    tasks = [
        ended(site, "tune", arranged.measured(0.8 + n / 100, seconds=1500 + 10 * n))
        for n in range(12)
    ]
    page = new_page(site, color_scheme=scheme)
    open_earlier_runs(page, tasks[-1])
    requests = [
        url for url in page.api_requests if "/dagRuns/~/" in url or "/xcoms?" in url
    ]

    chart = page.tab.get_by_role("img", name="Chart: Train: validation:auc")
    titles = chart.locator("title").all_text_contents()
    assert len(titles) == 11
    assert titles[0].startswith(f"{tasks[1].run_id}, 2026-03-01 13:00:00 UTC: ")
    assert titles[-1] == "this run, 2026-03-01 13:00:00 UTC: 0.91"
    heights = [
        float(each.get_attribute("cy") or "")
        for each in chart.locator(".psm-chart-target").all()
    ]
    assert heights == sorted(heights, reverse=True)
    assert chart.locator(".psm-chart-ring").get_attribute("cy") == str(heights[-1])
    page.button("Table of these values").click()
    rows = page.table("Train: validation:auc of the last runs")
    assert [row[2] for row in rows[:3]] == ["Train: validation:auc", "0.91", "0.9"]
    assert [row[0] for row in rows[1:]] == [
        "this run",
        *(task.run_id for task in tasks[10:0:-1]),
    ]
    contrasts = page.contrasts(TEXTS)
    assert {text: ratio for text, ratio in contrasts.items() if ratio < 4.5} == {}

    page.tab.get_by_role("combobox").select_option("Duration")

    assert page.table("Duration of the last runs")[1][2] == "26 min 50 s"
    assert chart.count() == 0
    # The list, and two XComs of each run. Whatever else happens, they are read once.
    own = quote(tasks[-1].run_id, safe="")
    assert len([url for url in requests if own not in url]) == 1 + 2 * 10
    page.hide(True)
    page.hide(False)
    page.page.wait_for_timeout(1000)
    assert sum("/dagRuns/~/" in url for url in page.api_requests) == 1
    page.tab.evaluate("element => { element.style.width = '22rem'; }")
    assert page.tab.evaluate("element => element.scrollWidth <= element.clientWidth")


MARKUP = '<img src=x onerror="window.hacked = 1">'
HUGE = {
    "Train": {
        "metrics": {"validation:auc": 1e300, MARKUP: -1e300, "tiny": 5e-324},
        "billable_seconds": 1e200,
    }
}
# What users may have written into the XComs of earlier runs, the newest last.
HOSTILE: dict[str, Any] = {
    "huge numbers": ({"seconds": 1e308, "billable_seconds": 1e12}, HUGE),
    "wrong types": (
        {"seconds": "9", "billable_seconds": [1]},
        {"Train": {"metrics": ["validation:auc"]}},
    ),
    "markup": (
        {"pipeline_name": MARKUP},
        {MARKUP: {"metrics": {MARKUP: 0.7}}, "Train": MARKUP},
    ),
    "too long": (
        {},
        {f"step{n}": {"metrics": {f"m{m}": 1 for m in range(40)}} for n in range(4000)},
    ),
    "wide": ({}, {"Train": {"metrics": {f"metric{n}": n for n in range(20_000)}}}),
    "no objects": (None, [[[1]], "text"]),
}


def test_hostile_earlier_runs(site: Site, page: TabPage) -> None:
    """
    What is in the XComs of earlier runs breaks nothing, freezes nothing, and is text.
    """
    for fields, outputs in HOSTILE.values():
        xcoms = arranged.measured(0.8)
        run = {**xcoms.run, **fields} if fields is not None else [5, "x"]
        earlier = site.new_task("success", "train_us")
        site.write_xcom(earlier, "run", run)
        site.write_xcom(earlier, "outputs", outputs)
    xcoms = arranged.measured(0.9)
    xcoms.outputs["Train"]["metrics"] |= {
        MARKUP: 1e300,
        "tiny": 1e-320,
        "text": "0.5",
        "list": [1],
    }
    task = ended(site, "train_us", xcoms)

    open_earlier_runs(page, task)
    page.button("Train").click()

    page.wait_for("1 of 6 earlier runs could not be read: The response is too long.")
    assert [row[:2] for row in page.table("Metrics of Train")[1:]] == [
        ["validation:auc", "0.9"],
        ["train:logloss", "0.211385"],
        [MARKUP, "1e+300"],
        ["tiny", "1e-320"],
    ]
    page.button("Table of these values").click()
    options = page.tab.get_by_role("combobox").locator("option").all_inner_texts()
    assert options == [
        f"Train: {name}" for name in ("validation:auc", MARKUP, "tiny")
    ] + [
        "Duration",
        "Billable time",
    ]
    for label in options:
        page.tab.get_by_role("combobox").select_option(label)
        assert len(page.table(f"{label} of the last runs")) == 6
        places = page.tab.locator(".psm-chart-target").evaluate_all(
            "all => all.map(each => Number(each.getAttribute('cy')))"
        )
        assert len(places) > 1
        assert all(0 <= place <= 140 for place in places), label
    assert page.tab.locator("img, script").count() == 0
    assert page.page.evaluate("window.hacked") is None


def test_earlier_runs_that_cannot_be_read(site: Site, page: TabPage) -> None:
    """
    One small note says so, and all else is shown; after a refusal no more is asked.
    """
    earlier = [ended(site, "train_apac", arranged.measured(0.8)) for _ in range(3)]
    task = ended(site, "train_apac", arranged.measured(0.9))
    own = quote(task.run_id, safe="")
    for path, (status, body), expected in (
        (
            r"/dagRuns/~/taskInstances\?task_id=train_apac",
            (403, {"detail": "No"}),
            "Earlier runs could not be read: HTTP status 403: No",
        ),
        (
            r"/dagRuns/~/taskInstances\?task_id=train_apac",
            (500, {"detail": "No"}),
            "Earlier runs could not be read: HTTP status 500: No",
        ),
        (
            r"/xcoms\?.*key=outputs$",
            (200, {"is_allowed": False}),
            "Earlier runs could not be read: You may not read their XComs.",
        ),
        (
            r"/xcoms\?.*key=run$",
            (500, {"detail": "No"}),
            "3 of 3 earlier runs could not be read: HTTP status 500: No",
        ),
    ):
        page.answer(rf"^(?!.*{own}).*{path}", status, body)
        page.api_requests.clear()

        open_earlier_runs(page, task)

        page.wait_for(expected)
        assert page.tab.locator(".psm-notice, [role=img]").count() == 0
        assert page.stat("Duration") == "30 min 23 s"
        assert "validation:auc: 0.9" in page.step_texts()[1]
        refused = [
            url for url in page.api_requests if re.search(path, url) and own not in url
        ]
        assert 1 <= len(refused) <= 3
        page.answer_no_more()
    # No older run takes the place of the last one.
    page.answer(
        f"/xcoms.*{quote(earlier[-1].run_id, safe='')}.*key=run$",
        500,
        {"detail": "No"},
    )
    open_earlier_runs(page, task)
    page.wait_for("1 of 3 earlier runs could not be read: HTTP status 500: No")
    assert "last successful run" not in page.text()
    page.answer_no_more()
    page.button("Refresh").click()
    page.wait_for("The last successful run before this one: ")
    assert "could not be read" not in page.text()
