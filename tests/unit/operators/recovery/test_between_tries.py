"""
What happens between two tries, where no process of the task runs: one answer of AWS is
not the truth.
"""

from __future__ import annotations

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import IN_BOTH_MODES
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import crash
from tests.world import DESCRIBE, START, World

pytestmark = IN_BOTH_MODES

RUNS_ON = {"steps": {"Merge": {"duration": 1200}}}
NOT_FOUND = {"code": "ResourceNotFound", "message": "It does not exist"}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_retry_asks_again_for_an_execution_that_aws_does_not_know_yet(
    moment: str, make_task: MakeTask, world: World
) -> None:
    """The process died before its start was sent, or before it had the response."""
    world.control.put_scenario(RUNS_ON)
    task = make_task()
    getattr(world.requests, moment)(START, crash)
    task.next_try()
    world.control.add_fault("error", DESCRIBE, **NOT_FOUND, count=8)

    run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Succeeded"]


@pytest.mark.parametrize("is_cleared", [False, True])
def test_execution_of_another_account_is_an_error_that_names_both(
    is_cleared: bool, make_task: MakeTask, world: World
) -> None:
    """Somebody has changed the keys of the connection to those of another account."""
    world.control.put_scenario(RUNS_ON)
    task = make_task()
    task.crash_while_waiting(world.time)
    if is_cleared:
        task.clear()
    world.control.add_fault("error", DESCRIBE, **NOT_FOUND)
    world.patch.setattr(
        PolysyncSageMakerHook,
        "get_caller_identity",
        lambda _: {"Account": "999999999999", "Arn": "x"},
    )

    run = task.next_try()

    assert "is in account 123456789012, but connection 'polysync_default'" in (
        str(run.error)
    )
    assert "signs in to account 999999999999" in str(run.error)
    assert len(world.log.arns) == 1
    assert len(task.record) > 0
