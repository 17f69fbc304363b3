"""What the tab and the page say of a task that waits for capacity."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

WAIT: dict[str, Any] = {
    "try_number": 1,
    "since": "2026-03-01T13:00:00Z",
    "pauses": 2,
    "reason": "The account-level service limit is 20 Executions -- Ask AWS for more",
    "asks_at": "2026-03-01T13:10:00Z",
    "nothing_runs": True,
}
SINCE = "ince 2026-03-01 13:00:00 UTC"
BEFORE_START: dict[str, Any] = {
    "execution_arn": None,
    "pipeline_name": arranged.PIPELINE,
    "state": "Waiting",
}
FAILED = arranged.failure().run


@pytest.mark.parametrize("run", [BEFORE_START, FAILED], ids=["start", "resume"])
def test_wait_for_capacity_is_shown_until_the_task_ends(
    run: dict[str, Any], site: Site, page: TabPage
) -> None:
    """What AWS has said and the advice are paragraphs of their own."""
    task = site.new_task("deferred")
    if run is FAILED:
        site.publish(task, arranged.failure())
    site.write_xcom(task, "run", {**run, "capacity": WAIT})

    page.open(task)
    page.wait_for("Waiting for capacity")
    paragraphs = page.tab.locator(".psm-notice p").all_inner_texts()
    assert paragraphs == [
        f"S{SINCE}. Nothing runs meanwhile.",
        *WAIT["reason"].split(" -- "),
    ]
    # Nobody has asked for steps, or sent parameters, before the start.
    assert "has not stored the steps" not in page.text()
    assert "No parameters were sent" not in page.text()

    page.open_executions("?state=Waiting")
    row = page.rows()[0]
    assert row[0] == f"… | Waiting | s{SINCE}"
    assert row[3] == arranged.PIPELINE

    site.set_state(task, "failed")
    page.open(task)
    ended = "There is no execution"
    if run is FAILED:
        ended = "The execution failed"
    page.wait_for(ended)
