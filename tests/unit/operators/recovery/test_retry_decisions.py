"""
The retry policy of a DAG author decides once about each failure. What it reschedules on
Airflow 3.4 is in ``tests/matrix``.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.airflow_compat.sdk import RetryDecision, RetryPolicy
from tests.conftest import IN_BOTH_MODES
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import MERGE_FAILS
from tests.world import DESCRIBE, RUNS_ON, START, STOP, World

pytestmark = IN_BOTH_MODES


class Changing(RetryPolicy):
    """A policy that never says the same twice, and counts what that costs."""

    def __init__(self, *decisions: RetryDecision) -> None:
        self.decisions = list(decisions)
        self.asked: list[BaseException] = []

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> RetryDecision:
        """Return the next decision."""
        self.asked.append(exception)
        return self.decisions[len(self.asked) - 1]


@pytest.mark.parametrize("says", ["default", "fail", "nothing", "error"])
@pytest.mark.parametrize(
    ("scenario", "refused"),
    [(RUNS_ON, DESCRIBE), (MERGE_FAILS, None), (RUNS_ON, START)],
    ids=["polls", "steps", "start"],
)
def test_policy_is_asked_once(
    says: str, scenario: Any, refused: str | None, make_task: MakeTask, world: World
) -> None:
    """
    What becomes of the execution, the text of the error, and what Airflow does follow
    from its first answer. Without one, the retries of the task apply.
    """
    world.control.put_scenario(scenario)
    if refused:
        world.deny(refused)
    retry, fail, nothing = RetryDecision.default(), RetryDecision.fail(), None
    answers: dict[str, Any] = {
        "default": [retry, fail, fail],
        "fail": [fail, retry, retry],
        "nothing": [nothing, fail, fail],
        "error": [],
    }
    policy = Changing(*answers[says])
    task = make_task(retry_policy=policy)

    run = task.next_try()

    is_retried = says != "fail"
    assert policy.asked == [run.error]
    assert task.state == ("up_for_retry" if is_retried else "failed")
    if refused != START:
        assert ("Airflow retries the task" in str(run.error)) is is_retried
    if refused == DESCRIBE:
        assert bool(world.calls(STOP)) is not is_retried
