"""
The retry policy of a DAG author may reschedule a task on Airflow 3.4: the same try goes
on with the execution.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import RetryDecision
from polysync_airflow.exceptions import PipelineExecutionTooExpensiveError
from polysync_airflow.retrying import PolysyncRetryPolicy
from tests.conftest import IN_BOTH_MODES
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    GroupTask,
    Task,
)
from tests.unit.operators.recovery.test_max_cost import (
    FAILS,
    LISTS,
    PRICES_OPTION,
    prices_of,
)
from tests.unit.operators.recovery.test_retry_decisions import Changing
from tests.world import (
    CHANGES,
    DESCRIBE,
    NEVER_ENDS,
    RETRY,
    RUNS_ON,
    START,
    STOP,
    World,
)

pytestmark = [
    IN_BOTH_MODES,
    pytest.mark.skipif(
        not CAPABILITIES.reschedules, reason="a retry_policy of Airflow 3.4 reschedules"
    ),
]
GOES_ON = "Airflow runs the task again, which continues with the execution."
RESCHEDULED = "Next: Airflow reschedules the task in 10 min, without using a retry."


def reschedule(**bounds: Any) -> Any:
    """Return the decision to go on in ten minutes."""
    make: Any = RetryDecision
    return make.reschedule(timedelta(minutes=10), **(bounds or {"max_reschedules": 9}))


@pytest.mark.parametrize("retries", [0, 2])
def test_rescheduled_try_goes_on_with_its_execution(
    retries: int, make_task: MakeTask, world: World
) -> None:
    """Nothing is stopped or started; the policy is asked once, also on the last try."""
    world.control.put_scenario(RUNS_ON)
    world.deny(DESCRIBE, count=1)
    policy = Changing(reschedule())
    task = make_task(retries=retries, retry_policy=policy)

    failed = task.next_try()

    assert task.state == "up_for_reschedule"
    assert f"{GOES_ON}\n{RESCHEDULED}" in str(failed.error)
    assert policy.asked == [failed.error]

    run = task.next_try()

    assert (run.error, task.state, task.try_number) == (None, "success", 1)
    assert world.calls(*CHANGES) == [START]
    assert world.log.statuses == ["Succeeded"]


@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_rescheduled_try_begins_again_after_the_end(
    retry_mode: str, make_task: MakeTask, world: World
) -> None:
    """As a retry does, and as the error has said."""
    world.control.put_scenario(MERGE_FAILS_ONCE)
    policy = Changing(reschedule())
    task = make_task(retries=0, retry_policy=policy, retry_mode=retry_mode)

    text = " ".join(str(task.next_try().error).split())
    task.next_try()

    begins = {"new": ("starts a new", START), "resume": ("resumes the", RETRY)}
    says, request = begins[retry_mode]
    assert f"{RESCHEDULED} The task then {says} execution" in text
    assert world.calls(*CHANGES) == [START, request]
    assert (task.try_number, world.log.max_concurrent) == (1, 1)


def test_rescheduled_try_finds_its_execution_without_its_record(
    make_task: MakeTask, world: World
) -> None:
    """It is not the first session, though it is the first try."""
    world.control.put_scenario(MERGE_FAILS)
    task = make_task(retries=0, retry_policy=Changing(reschedule()))
    task.next_try()
    task.store.values.clear()
    world.control.put_scenario({})

    task.next_try()

    assert (task.state, world.calls(START)) == ("success", [START, START])
    assert world.log.statuses == ["Failed", "Succeeded"]


@pytest.mark.parametrize(
    ("bounds", "reached"),
    [
        ({"max_reschedules": 1}, "max_reschedules=1"),
        ({"reschedule_timeout": timedelta(hours=1)}, "reschedule_timeout=1:00:00"),
    ],
)
def test_last_reschedule_leaves_nothing_running(
    bounds: Any, reached: str, make_task: MakeTask, world: World
) -> None:
    """After the bound, the execution is stopped; Airflow does not see it otherwise."""
    world.control.put_scenario(NEVER_ENDS)
    world.deny(DESCRIBE)
    policy = Changing(reschedule(**bounds), reschedule(**bounds))
    task = make_task(retries=0, retry_policy=policy)
    task.next_try()
    assert task.state == "up_for_reschedule"
    world.control.advance(3600)

    run = task.next_try()

    assert task.state == "failed"
    assert "Next: Airflow" not in str(run.error)
    decision = run.operator.retry_policy.evaluate(run.error, 1, 0)
    assert (decision.action.value, len(policy.asked)) == ("retry", 2)
    assert decision.reason == f"Reschedule limit reached ({reached})"
    assert world.log.statuses == ["Stopping"]


def test_time_of_an_execution_goes_on_across_reschedules(
    make_task: MakeTask, world: World
) -> None:
    """``timeout`` counts from the start of the execution, not of the session."""
    world.control.put_scenario(RUNS_ON)
    world.deny(DESCRIBE, count=1)
    policy = Changing(reschedule(), RetryDecision.fail())
    task = make_task(retries=0, retry_policy=policy, timeout=900)
    task.next_try()
    world.control.advance(880)
    began = world.time.time()

    task.next_try()

    assert world.time.time() - began < 60
    assert (task.state, world.calls(*CHANGES)) == ("failed", [START, STOP])


@pytest.mark.parametrize(("kind", "again"), [(Task, START), (GroupTask, RETRY)])
def test_money_of_a_task_counts_across_reschedules(
    kind: type[Task], again: str, deferrable: bool, world: World
) -> None:
    """What has failed has spent most of it; what follows gets the rest."""
    world.patch.setenv(PRICES_OPTION, prices_of(2))
    world.control.put_scenario({"steps": {"Shard0": FAILS, "Shard3": FAILS}})
    policy = Changing(reschedule())
    task = kind(deferrable, {"retry_policy": policy, "max_cost": 300, **LISTS}, 0)
    task.next_try()
    assert task.state == "up_for_reschedule"

    error = task.next_try().error

    assert isinstance(error, PipelineExecutionTooExpensiveError)
    assert 300 <= error.spending.amount < 340
    assert world.calls(*CHANGES) == [START, again, STOP]


@pytest.mark.parametrize(
    ("refusals", "limit", "state", "starts"),
    [(2, 4, "success", 3), (9, 4, "failed", 3), (9, 0, "failed", 1)],
    ids=["passes", "lasts", "hopeless"],
)
def test_own_policy_reschedules_a_start_that_lacks_quota(
    refusals: int,
    limit: int,
    state: str,
    starts: int,
    make_task: MakeTask,
    world: World,
) -> None:
    """As often as it says, unless the quota is too small for what is requested."""
    text = f"limit 'Executions' is {limit} with a request delta of 1"
    quota: Any = {"code": "ResourceLimitExceeded", "message": text, "count": refusals}
    world.control.add_fault("error", START, **quota)
    policy = PolysyncRetryPolicy(max_reschedules=2)
    task = make_task(retries=0, retry_policy=policy)

    while not task.finished:
        task.next_try()

    assert (task.state, task.try_number, len(world.calls(START))) == (state, 1, starts)
    assert len(world.log.statuses) == int(state == "success")


def test_task_that_waits_for_capacity_is_not_rescheduled(
    make_task: MakeTask, world: World
) -> None:
    """Its ``timeout`` is the end of the wait."""
    quota: Any = {"code": "ResourceLimitExceeded", "message": "no"}
    world.control.add_fault("error", START, **quota)
    policy = PolysyncRetryPolicy(max_reschedules=2)
    arguments = {"wait_for_capacity": True, "timeout": 3600}
    task = make_task(retries=0, retry_policy=policy, **arguments)

    task.next_try()

    assert task.state == "failed"
