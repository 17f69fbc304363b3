"""The filters of the page, which are in the query string of its address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.executions.test_rows import arrange
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

STATES = {
    "Running": ("deferred", arranged.running),
    "Success": ("success", arranged.success),
    "Failed": ("failed", arranged.failure),
    "Cancelled": ("skipped", arranged.stopped),
    "Unknown": ("failed", arranged.running),
}


@pytest.fixture(scope="module", autouse=True)
def _executions(site: Site) -> None:
    """One execution in each state, and a task that was skipped."""
    for state, arranged_as in STATES.values():
        arrange(site, "retraining_02", state, arranged_as())
    arrange(site, "retraining_02", "skipped", None)


@pytest.mark.parametrize("state", STATES)
def test_states(page: TabPage, state: str) -> None:
    """Only executions in the state are shown; the form says which."""
    page.open_executions(
        f"?dag=retraining_02&since=1h&pipeline=churn-tuning&state={state}"
    )

    assert [row[0].split(" | ")[1] for row in page.rows()] == [state]
    assert page.tab.get_by_label("State").input_value() == state


@pytest.mark.parametrize(
    ("text", "number"), [("MAXdepth=6", 1), ("churn/2026-03", 1), ("MaxDepth=7", 0)]
)
def test_parameters(page: TabPage, text: str, number: int) -> None:
    """A part of a name with its value is compared with those of each execution."""
    query = "?dag=retraining_02&since=1h&state=Success"

    page.open_executions(f"{query}&parameter={text}")

    assert len(page.rows()) == number
    assert page.tab.get_by_label("Parameter").input_value() == text


def test_skipped_tasks_without_execution_are_no_rows(page: TabPage) -> None:
    """Airflow has given a start to the task that was skipped."""
    page.open_executions("?dag=retraining_02&since=1h")

    assert all("skipped" not in row[0] for row in page.rows())


def test_the_form_changes_the_address(page: TabPage) -> None:
    """What people choose is in the address, and all of it can be withdrawn."""
    page.open_executions("?dag=retraining_02&offset=1")

    page.tab.get_by_label("State").focus()
    page.tab.get_by_label("State").select_option("Failed")
    page.wait_for("the filters. Tasks compared with them: ")
    assert page.query() == "state=Failed&dag=retraining_02"
    # Whoever uses the keyboard goes on from there.
    assert page.page.evaluate("document.activeElement.value") == "Failed"
    page.tab.get_by_label("Pipeline", exact=True).fill("CHURN")
    page.tab.get_by_label("Started").select_option("Last 7 days")
    page.page.wait_for_url("**&since=7d")
    page.tab.get_by_label("DAG").fill("nothing like this")
    page.tab.get_by_label("DAG").press("Enter")
    page.wait_for("No execution among these tasks has what the filters ask for.")
    assert page.query() == "state=Failed&dag=nothing+like+this&pipeline=CHURN&since=7d"
    page.button("Clear filters").click()
    page.wait_for("Tasks that start executions: ")
    assert page.query() == ""


@pytest.mark.parametrize(
    "query",
    [
        "state=Exploded",
        "since=1y",
        "offset=-1",
        "offset=1e3",
        "state=constructor",
        "dag=%5C",
        "pipeline=&x=y",
    ],
)
def test_invalid_filters_are_left_out(page: TabPage, query: str) -> None:
    """Others may have made the address."""
    page.open_executions(f"?{query}")

    page.wait_for("Tasks that start executions: ")
    sent = [url for url in page.api_requests if "/taskInstances?" in url]
    assert all(
        "Exploded" not in url and "dag_id_pattern=%5C" not in url for url in sent
    )
    assert len(page.rows()) > 3


def test_times_are_relative(page: TabPage) -> None:
    """An address with "last hour" means the hour before it is opened."""
    page.open_executions("?since=1h")
    page.rows()

    url = next(url for url in page.api_requests if "/taskInstances?" in url)
    text = url.partition("start_date_gte=")[2].partition("&")[0].replace("%3A", ":")
    assert (
        timedelta(minutes=59)
        < datetime.now(UTC) - datetime.fromisoformat(text)
        < timedelta(minutes=70)
    )


def test_a_filter_of_xcoms_compares_some_tasks(page: TabPage) -> None:
    """
    What only XComs say is compared for so many tasks at once; people may look further.
    """
    tasks = [
        {
            "dag_id": "other",
            "dag_run_id": f"run_{index}",
            "task_id": "train",
            "map_index": -1,
            "state": "success",
            "start_date": "2026-03-01T13:00:00Z",
            "run_after": "2026-03-01T13:00:00Z",
            "try_number": 1,
            "rendered_fields": {"pipeline_name": "other"},
        }
        for index in range(100)
    ]
    page.answer(
        r"/taskInstances\?", 200, {"task_instances": tasks, "total_entries": 900}
    )

    page.open_executions("?pipeline=rare&state=Success")

    page.wait_for("0 match the filters. Tasks compared with them: 1 to 300 of 900.")
    assert [url for url in page.api_requests if "/xcoms?" in url] == []
    page.button("Look further").click()
    page.wait_for("0 match the filters. Tasks compared with them: 301 to 600 of 900.")
    assert page.query() == "state=Success&pipeline=rare&offset=300"
