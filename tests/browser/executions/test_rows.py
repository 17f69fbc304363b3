"""What the page shows of each execution."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

# What is in a cell without a value.
NONE = "\N{EN DASH}"
MARKUP = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'


def arrange(site: Site, dag_id: str, state: str, xcoms: arranged.XComs | None) -> Task:
    """Create a DAG run whose task has started an execution, or None."""
    task = Task(site.trigger(dag_id), dag_id=dag_id)
    site.set_state(task, state)
    if xcoms:
        site.publish(task, xcoms)
    return task


def test_all_executions(site: Site, page: TabPage) -> None:
    """
    What runs is first, then what has started last; each row says what happened, where,
    and who has started it.
    """
    running = arrange(site, "retraining_00", "deferred", arranged.running())
    failed = arrange(site, "retraining_00", "failed", arranged.failure())
    not_counted = "Not counted: Lambda functions (Notify)."
    cost = {
        "amount": 0.6824,
        "currency": "USD",
        "prices_date": "2026-11-01",
        "note": not_counted,
    }
    succeeded = arrange(
        site, "retraining_00", "success", arranged.measured(0.9, cost=cost)
    )
    left = arrange(site, "retraining_00", "success", arranged.running())
    none = arrange(site, "retraining_00", "failed", None)
    error = f"pipeline_parameters['Rows'] is missing {MARKUP}"
    site.write_xcom(none, "error", error)
    page.console_errors.clear()

    page.open_executions("?dag=retraining_00")

    rows = page.rows()
    started = [
        f"retraining_00 | {task.run_id}"
        for task in (running, none, left, succeeded, failed)
    ]
    assert [row[1] for row in rows] == started
    assert [row[0] for row in rows] == [
        "▶ | Running",
        f"✕ | Failed | No execution: {error}",
        "? | Unknown | was running",
        "✓ | Success",
        "✕ | Failed",
    ]
    assert {row[2] for row in rows} == {"train"}
    assert [row[3] for row in rows] == [
        arranged.PIPELINE,
        NONE,
        *[arranged.PIPELINE] * 3,
    ]
    assert rows[3][4] == "2026-03-01 13:00:00 UTC"
    assert rows[0][5].startswith("16 min ")
    # The last known one, of the execution whose end nobody has seen.
    assert rows[2][5].startswith("16 min ")
    others = [row[5] for row in (rows[1], *rows[3:])]
    assert others == [NONE, "30 min 23 s", "12 min 50 s"]
    assert [row[6] for row in rows] == [
        "2 of 5",
        NONE,
        "2 of 5",
        "5 of 5",
        "1 of 4 | failed: Train",
    ]
    assert [row[7] for row in rows] == [
        NONE,
        NONE,
        NONE,
        "22 min 48 s | 0.68 USD, not complete",
        NONE,
    ]
    assert page.tab.get_by_title(not_counted).count() == 1
    assert {row[8] for row in rows} == {"Anonymous | manual, REST API"}
    page.wait_for("Tasks that start executions: all 5.")
    assert page.console_errors == []


def test_rows_have_two_lines(site: Site, new_page: Callable[..., TabPage]) -> None:
    """
    Also with long names, in a window of 1440 pixels: what is cut off is in a title.
    """
    page = new_page(site, viewport={"width": 1440, "height": 900})
    name = "pipeline-with-a-long-name-" * 4
    xcoms = arranged.failure()
    xcoms.run["pipeline_name"] = name
    xcoms.run["failed_steps"] = [{"name": name, "reason": "x"}]
    task = arrange(site, "retraining_02", "failed", xcoms)
    waiting = arranged.running()
    times = {"since": "2026-03-01T13:00:00Z", "asks_at": "2026-03-01T13:10:00Z"}
    waiting.run |= {"pipeline_name": name, "capacity": {**times, "reason": name}}
    arrange(site, "retraining_02", "deferred", waiting)
    spending = {"amount": 3.2, "currency": "USD", "prices_date": "2026-11-01"}
    spending |= {"max_cost": 12, "per_hour": 1.4, "dearest_step": name}
    costly = arranged.running()
    costly.run |= {"pipeline_name": name, "spending": spending}
    arrange(site, "retraining_02", "deferred", costly)

    page.open_executions("?dag=retraining_02&pipeline=pipeline-with")
    row = page.rows()[-1]

    assert row[1] == f"retraining_02 | {task.run_id}"
    run = page.tab.locator(".psm-run").last
    assert run.evaluate("text => text.scrollWidth <= text.clientWidth")
    assert re.fullmatch(r"2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d UTC", run.inner_text())
    heights = page.tab.locator(".psm-executions tbody tr").evaluate_all(
        "rows => rows.map(row => row.getBoundingClientRect().height)"
    )
    assert max(heights) < 60
    table = page.tab.locator(".psm-scroll")
    assert table.evaluate("frame => frame.scrollWidth <= frame.clientWidth")
    assert page.tab.get_by_title(name, exact=True).count() == 3
    title = re.compile(f"^since .* UTC: {name}$")
    assert page.tab.get_by_title(title).count() == 1


def test_the_way_to_the_tab_and_back(site: Site, page: TabPage) -> None:
    """
    The page is in the navigation; a task leads to its tab, and the browser's button
    back to the same filters.
    """
    arrange(site, "retraining_01", "success", arranged.success())
    page.open_executions("?dag=nothing")
    page.page.get_by_role("button", name="Browse").click()
    page.page.get_by_role("menuitem", name="SageMaker").click()
    page.wait_for("Tasks that start executions: ")
    assert page.query() == ""
    page.open_executions("?dag=retraining_01")

    page.tab.get_by_role("link", name="train", exact=True).click()

    page.wait_for("Notify")
    page.page.go_back()
    page.wait_for("Tasks that start executions: all 1.")
    assert page.query() == "dag=retraining_01"


def test_mapped_tasks(site: Site, page: TabPage) -> None:
    """Each map index is a row; the first one says how all of them are."""
    first = site.new_task("deferred", "train_each", map_index=0)
    second = Task(first.run_id, first.task_id, 1)
    site.set_state(second, "success")
    site.publish(first, arranged.running())
    site.publish(second, arranged.success())

    page.open_executions("?dag=churn_retraining&since=1h")

    rows = {row[2]: row[0] for row in page.rows() if row[1].endswith(first.run_id)}
    assert rows == {
        "train_each | map index 0; 3 in all: 1 at work, 1 succeeded": "▶ | Running",
        "train_each | map index 1": "✓ | Success",
    }
    page.tab.get_by_role("link", name="train_each").first.click()
    page.wait_for("TrainBest")


def test_task_that_did_not_wait(site: Site, page: TabPage) -> None:
    """
    Its steps are not asked for in vain: the browser would show an error. Its state is
    not known any more.
    """
    task = site.new_task("success")
    site.write_xcom(task, "run", {**arranged.running().run, "status": None})

    page.open_executions("?dag=churn_retraining&since=1h")

    (row,) = (row for row in page.rows() if task.run_id in row[1])
    assert row[0].endswith("was running")
    assert "of" not in row[6]


def test_what_owns_no_execution_is_no_row(site: Site, page: TabPage) -> None:
    """
    Tasks that stop or find an execution of another one, and those of steps, are not
    listed.
    """
    states = {
        "prepare": "success",
        "churn.Train": "deferred",
        "churn.execution": "deferred",
    }
    group = Task(
        site.new_run("churn_steps", "running", states, 60),
        "churn.execution",
        dag_id="churn_steps",
    )
    site.publish(group, arranged.running())
    for task_id in ("stop", "find"):
        site.publish(site.new_task("success", task_id), arranged.success())

    page.open_executions("?dag=churn_&since=1h")

    tasks = {
        row[2].partition(" | ")[0] for row in page.rows() if group.run_id in row[1]
    }
    assert tasks == {"churn.execution"}
    assert not {row[2] for row in page.rows()} & {
        "stop",
        "find",
        "prepare",
        "churn.Train",
    }


def test_markup_stays_text(site: Site, page: TabPage) -> None:
    """Names with markup are shown as they are, and run nothing."""
    xcoms = arranged.failure()
    xcoms.run |= {
        "pipeline_name": MARKUP,
        "failed_steps": [{"name": MARKUP, "reason": MARKUP}],
    }
    arrange(site, "retraining_02", "failed", xcoms)
    runs = {
        "dag_id": "retraining_02",
        "dag_run_id": MARKUP,
        "run_type": MARKUP,
        "triggering_user_name": MARKUP,
    }
    page.answer(
        "/dagRuns/list", 200, {"dag_runs": [runs, {**runs, "dag_run_id": 7}, None, "x"]}
    )

    page.open_executions(f"?dag=retraining_02&pipeline={MARKUP}")

    (row,) = page.rows()
    assert (row[3], row[6]) == (MARKUP, f"1 of 4 | failed: {MARKUP}")
    assert page.tab.locator("img, script, iframe").count() == 0
    assert page.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "value", [7, "text", [1, 2], {"name": 1}, [{"name": ["x"], "state": {}}]]
)
def test_unknown_shapes_are_ignored(site: Site, page: TabPage, value: object) -> None:
    """XComs and responses of another shape break nothing."""
    task = arrange(site, "retraining_03", "deferred", None)
    site.write_xcom(
        task,
        "run",
        {
            **arranged.running().run,
            "state": value,
            "seconds": value,
            "failed_steps": value,
        },
    )
    site.write_xcom(task, "steps", value)
    page.answer("/dagRuns/list", 200, value)

    page.open_executions("?dag=retraining_03&since=1h")

    assert page.rows()[0][0] == "? | Unknown"


def test_few_requests(site: Site, page: TabPage) -> None:
    """
    A page needs two XComs of each row, and three lists, whatever the number of tasks is.
    """
    from tests.browser.many_executions import add_executions

    add_executions(site, dags=1, number=60, running=3)
    page.open_executions("?dag=nothing")
    page.rows()
    page.api_requests.clear()

    page.open_executions("?dag=retraining_00")

    rows = page.rows()
    assert [row[0] for row in rows[:3]] == ["▶ | Running"] * 3
    assert len(rows) == 25
    single = [url for url in page.api_requests if "/xcoms?" in url]
    assert len(single) <= 2 * len(rows)
    assert len(page.api_requests) - len(single) <= 3 + 2
    page.button("Older").click()
    page.wait_for(re.compile(": 26 to 50 of 6"))
    assert page.query() == "dag=retraining_00&offset=25"
    assert len(page.rows()) == 25
    page.button("Newest").click()
    page.wait_for(re.compile(": 1 to 25 of 6"))
