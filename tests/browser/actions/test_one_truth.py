"""
The tab and the page say the same of an execution, however its task was ended: between
the end of the task and that of the execution, and after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

# Of these executions only.
PIPELINE = "one-truth"
STOPS: Mapping[str, Any] = {"stops_with_task": True}
WORKER: Mapping[str, Any] = {"process": "worker"}
TIMEOUT: Mapping[str, Any] = {"reason": "timeout", **WORKER}
REFUSED: Mapping[str, Any] = {"result": "failed", "error": "AccessDenied"}


def stop(seconds_ago: float, **changes: Any) -> dict[str, Any]:
    """Return the members of ``run`` after the request for a stop."""
    requested = arranged.stop(arranged.ago(seconds_ago)) | changes
    return {"stop": requested, **STOPS}


CLEARED = "cleared, not stored yet"
# By what has happened: the state of the task, what has changed in the XCom ``run`` of
# an execution that runs, and the state that is shown.
ENDS = {
    "runs": ("deferred", STOPS, "Running"),
    "marked, not stored yet": ("failed", STOPS, "Stopping"),
    "marked as success, not stored yet": ("success", STOPS, "Stopping"),
    CLEARED: (None, STOPS, "Stopping"),
    "marked": ("failed", {"status": "Stopping", **stop(5)}, "Stopping"),
    "run failed": ("skipped", stop(5, result="requested"), "Stopping"),
    "worker killed": ("failed", stop(5, **WORKER), "Stopping"),
    "timeout": ("failed", {"status": "Stopping", **stop(300, **TIMEOUT)}, "Stopping"),
    "end not seen": ("failed", {"status": "Stopping", **stop(86_400)}, "Stopping"),
    "stopped in AWS": ("deferred", {"status": "Stopping", **STOPS}, "Stopping"),
    "cleared, waits": ("deferred", {"state": "Stopping", "steps": []}, "Stopping"),
    "stop refused": ("failed", stop(5, **REFUSED), "Unknown"),
    "stop_on_kill=False": ("failed", {}, "Unknown"),
    "wait_for_completion=False": ("success", {}, "Unknown"),
}


def state_in(page: TabPage, run_id: str) -> str:
    """Return the state in the row of a DAG run."""
    link = page.page.locator(f'a[href*="{quote(run_id, safe="")}"]')
    cell = page.tab.locator(".psm-executions tr", has=link).locator("td").first
    text: str = cell.locator(".psm-badge").inner_text()
    return text.rsplit(maxsplit=1)[-1]


def test_tab_and_page_say_the_same(site: Site, page: TabPage) -> None:
    """One state, from the moment of the action."""
    tasks = {}
    expected = {}
    for name, (task_state, changes, shown) in ENDS.items():
        task = site.new_task("deferred")
        site.set_state(task, task_state)
        xcoms = arranged.running()
        xcoms.run |= {"pipeline_name": PIPELINE, **changes}
        site.publish(task, xcoms)
        tasks[name] = task
        expected[name] = shown

    in_tab = {}
    for name, task in tasks.items():
        page.open(task)
        page.wait_for(PIPELINE)
        badge = page.tab.get_by_role("status").first.inner_text()
        in_tab[name] = badge.rsplit(maxsplit=1)[-1]
    page.open_executions(f"?pipeline={PIPELINE}")
    page.rows()
    # Airflow does not list a task that was cleared before it is scheduled.
    del tasks[CLEARED]
    in_page = {name: state_in(page, task.run_id) for name, task in tasks.items()}

    assert in_tab == expected
    assert in_page | {CLEARED: "Stopping"} == expected
