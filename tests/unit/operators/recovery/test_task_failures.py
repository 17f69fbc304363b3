"""Failures of the start, which may have been accepted all the same."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import crash
from tests.world import LIST, RUNS_ON, START, STOP, World

# With a timeout of 10 s, the try gives up after the fourth call.
SHORT_TIMEOUT: dict[str, Any] = {"timeout": 10}
CALLS = 4


def test_refusal_of_a_resent_request_is_not_explained(
    make_task: MakeTask, world: World
) -> None:
    """
    The parameters are those of an earlier try. They are not compared with the
    definition of today.
    """
    task = make_task(validate_parameters=False)
    world.requests.before(START, crash)
    task.next_try(pipeline_parameters={"Shard": 4})

    run = task.next_try(validate_parameters=True)

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == "ValidationException"
    assert world.calls() == [LIST, START]


@pytest.mark.parametrize("fault", ["dropped", "lost_response", "throttle"])
def test_request_is_resent_after_an_ambiguous_error(
    fault: str, make_task: MakeTask, world: World
) -> None:
    """
    If a try ends without a response, the next try resends the same request, and one
    execution runs.
    """
    world.control.add_fault(fault, START, count=CALLS)
    task = make_task()

    first = task.next_try(pipeline_parameters={"Shards": 4}, **SHORT_TIMEOUT)
    assert isinstance(first.error, SageMakerApiError)
    assert not first.error.permanent
    assert task.record.get("execution_arn") is None
    second = task.next_try(pipeline_parameters={"Shards": 3})

    assert second.error is None
    assert second.xcoms["run"]["parameters"] == {"Shards": "4"}
    assert world.log.statuses == ["Succeeded"]
    # If AWS has started it, its list has it.
    assert len(world.tokens(START)) == CALLS + (fault != "lost_response")
    assert len(set(world.tokens(START)) - {""}) == 1


def test_start_that_was_refused_after_a_lost_response_is_stopped(
    make_task: MakeTask, world: World
) -> None:
    """Only the first of its requests would prove that nothing was started."""
    world.control.put_scenario(RUNS_ON)
    world.control.add_fault("lost_response", START, count=1)
    refusal = {"code": "AccessDeniedException", "message": "no"}
    world.control.add_fault("error", START, **refusal, count=1)

    run = make_task(retries=0).next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == "AccessDeniedException"
    assert world.calls(STOP) == [STOP]


# ---- executions with an unknown ARN


def test_unknown_execution_is_stopped_in_its_own_region(
    make_task: MakeTask, world: World
) -> None:
    """
    If ``region_name`` renders differently, the resend and the stop still go to the
    execution's region.
    """
    task = make_task(retries=1)
    world.requests.after(START, crash)
    task.next_try()

    world.deny(LIST)
    world.deny(START, count=1)
    task.next_try(region_name="eu-west-1")
    world.control.advance(60)

    assert world.calls(STOP) == [STOP]
    assert {call["region"] for call in world.control.calls(START)} == {"us-east-1"}
