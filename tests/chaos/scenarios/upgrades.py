"""
Scenarios in which the deployment gets another Airflow, or another release of the
package, while a task waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from polysync_airflow.execution.lifecycle.instructions import read_name
from tests.chaos.deployment.airflow_deployment import AirflowDeployment
from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    START,
    Scenario,
    clear,
    release,
    start_and_defer,
    wait_for_kill,
)

Change = Callable[[AirflowDeployment], None]
RETURN: Final[Change] = AirflowDeployment.return_to_release_before


def while_deferred(change: Change) -> Scenario:
    """The task is deferred. Its trigger goes on after the change."""

    def scenario(run: Run) -> Steps:
        yield from start_and_defer(run)
        yield from _change(run, change, "deferred")
        before = len(run.calls(DESCRIBE))
        yield from run.until(
            "the trigger polls again", lambda: len(run.calls(DESCRIBE)) > before
        )
        yield from release(run)

    return scenario


def before_retry(change: Change) -> Scenario:
    """
    The process of the task was killed after the start, and the task waits for its
    retry, which comes afterwards.
    """

    def scenario(run: Run) -> Steps:
        run.start()
        yield from wait_for_kill(run)
        yield from run.until(
            "the task waits for its retry", lambda: run.all_in("up_for_retry")
        )
        yield from _change(run, change, "up_for_retry")
        yield from run.until("the retry is deferred", lambda: run.all_in("deferred"))
        yield from release(run)
        tokens = {
            call["request"].get("ClientRequestToken") for call in run.calls(START)
        }
        run.require(len(tokens) == 1, f"starts with {len(tokens)} tokens, expected 1")

    return scenario


def and_cleared(change: Change) -> Scenario:
    """The task is deferred during the change. Then the user clears it."""

    def scenario(run: Run) -> Steps:
        yield from start_and_defer(run)
        yield from _change(run, change, "deferred")
        yield from clear(run)
        _require_release(run, run.calls(START)[-1], is_before=change is RETURN)

    return scenario


def on_release_before(scenario: Scenario) -> Scenario:
    """
    Return a scenario that begins on the release before.

    :param scenario: what happens then.
    """

    def returned(run: Run) -> Steps:
        yield from _change(run, RETURN)
        yield from scenario(run)
        _require_release(run, run.calls(START)[0], is_before=True)

    return returned


def _require_release(run: Run, start: dict[str, Any], *, is_before: bool) -> None:
    """
    Require that a start was sent by the release before, whose names say less, or by
    that of the repository.
    """
    name = start["request"]["PipelineExecutionDisplayName"]
    run.require(
        (read_name(name) is None) == is_before,
        f"a start has the name {name!r}: {is_before=}",
    )


def _change(run: Run, change: Change, state: str | None = None) -> Steps:
    yield from run.meet(f"before {change.__name__}")
    if state:
        run.require(
            run.all_in(state),
            f"before the change: {run.state_line()}; expected: {state}",
        )
    yield from run.meet(change.__name__, lambda: change(run.deployment))
    run.deployment.calls.refresh()
