"""
The tab and the page have no violation of WCAG 2.2, levels A and AA, that axe-core
finds: `make test-accessibility`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.browser.test_step_task import arrange
from tests.conftest import NEEDS_TABS

AXE = os.environ.get("POLYSYNC_AXE")
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """async (levels) => {
  const { violations, passes } = await axe.run(".psm", { runOnly: levels });
  const found = violations.flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id}: ${help}: ${html}`));
  return [found, passes.length];
}"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.nightly,
    NEEDS_TABS,
    pytest.mark.skipif(
        not AXE, reason="POLYSYNC_AXE does not name axe-core: make test-accessibility"
    ),
]

Show = Callable[[Site, TabPage], None]


def _open(site: Site, page: TabPage, task: Task, text: str) -> None:
    page.open(task)
    page.wait_for(text)


def failed(site: Site, page: TabPage) -> None:
    """
    Show the tab of a failed execution, with buttons, its parameters, and one of its
    questions.
    """
    task = site.new_task("failed")
    site.publish(task, arranged.failure())
    site.put_record(task)
    _open(site, page, task, "The execution failed")
    page.button("Parameters (3)").click()
    page.button("Preprocess").click()
    page.button("Resume failed steps").click()
    page.wait_for("Resume failed steps?")


def running(site: Site, page: TabPage) -> None:
    """Show the tab of a running execution."""
    task = site.new_task("deferred")
    site.publish(task, arranged.stoppable())
    site.put_record(task)
    _open(site, page, task, "Stop execution")


def compared(site: Site, page: TabPage) -> None:
    """
    Show the tab of a run that is compared with an earlier one, with its chart and
    tables.
    """
    for auc in (0.8, 0.9):
        task = site.new_task("success", "tune")
        site.publish(task, arranged.measured(auc))
    _open(site, page, task, "Earlier runs")
    page.tab.get_by_role("img", name="Chart").wait_for()
    for name in ("Train", "Register", "Table of these values"):
        page.button(name).click()


def empty(site: Site, page: TabPage) -> None:
    """Show the tab of a task without an execution."""
    _open(site, page, site.new_task("running"), "has not started its execution yet")
    _open(site, page, site.new_task("failed"), "Log of the task")


def executions(site: Site, page: TabPage) -> None:
    """Show the page with executions in all states, and one that is missing."""
    for state, make in (
        ("deferred", arranged.running),
        ("success", lambda: arranged.measured(0.9)),
        ("failed", arranged.failure),
        ("failed", arranged.stopped),
        ("success", arranged.running),
    ):
        site.publish(site.new_task(state), make())
    site.new_task("failed")
    page.open_executions("?dag=churn_retraining&since=1h")
    assert len(page.rows()) > 5
    page.wait_for("By day, ")


def step(site: Site, page: TabPage) -> None:
    """Show the tab of a step's task, with all that opens."""
    train = arrange(site, arranged.failure())["Train"]
    site.write_xcom(train, "return_value", {"metrics": {"validation:auc": 0.83}})
    _open(site, page, train, "Clear with Downstream")
    page.button("Parameters (3)").click()


def stopping(site: Site, page: TabPage) -> None:
    """Show the tab of an execution that is being stopped."""
    task = site.new_task("failed")
    site.publish(task, arranged.being_stopped(arranged.ago(5)))
    _open(site, page, task, "The execution is being stopped")


def nothing(site: Site, page: TabPage) -> None:
    """Show the page without executions."""
    page.open_executions("?dag=nothing&state=Failed")
    page.wait_for("There are no executions")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "show",
    [failed, running, compared, empty, executions, nothing, step, stopping],
)
def test_no_violation(
    site: Site, new_page: Callable[..., TabPage], show: Show, scheme: str
) -> None:
    """axe-core finds none, and has checked something."""
    page = new_page(site, color_scheme=scheme)
    show(site, page)
    page.page.evaluate(Path(AXE or "").read_text())

    found: tuple[list[str], Any] = page.page.evaluate(RUN, LEVELS)

    violations, passes = found
    assert violations == []
    assert passes > 5
