"""
Failures: of the start, which may have been accepted all the same, and of the task, whose
execution is stopped if no try follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from polysync_airflow.airflow_compat.sdk import RetryDecision, RetryPolicy
from polysync_airflow.exceptions import SageMakerApiError
from tests.conftest import IN_BOTH_MODES
from tests.tasks import TaskInstance
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import crash
from tests.world import START, STOP, World

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
    assert world.calls() == ["ListPipelineExecutions", START]


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


FailPush = Callable[[BaseException], None]


@pytest.fixture
def fail_first_push(monkeypatch: pytest.MonkeyPatch) -> FailPush:
    """Let the first try fail when it pushes the XCom ``execution_arn``."""
    push = TaskInstance.xcom_push

    def fail_with(error: BaseException) -> None:
        def failing_push(self: TaskInstance, key: str, value: Any) -> None:
            if self.try_number == 1 and key == "execution_arn":
                raise error
            push(self, key, value)

        monkeypatch.setattr(TaskInstance, "xcom_push", failing_push)

    return fail_with


class FixedPolicy(RetryPolicy):
    """A retry policy of the DAG's author."""

    def __init__(self, decide: Callable[[], RetryDecision]) -> None:
        self.decide = decide

    def evaluate(self, *_: Any, **__: Any) -> RetryDecision:
        """Return the decision."""
        return self.decide()


@IN_BOTH_MODES
@pytest.mark.parametrize(
    ("error", "retries", "policy"),
    [
        (ConnectionError("no API server"), 0, None),
        (AirflowFailException("no retries, please"), 2, None),
        (ConnectionError("no API server"), 2, FixedPolicy(RetryDecision.fail)),
    ],
    ids=["no retries left", "AirflowFailException", "retry_policy decides FAIL"],
)
def test_final_error_stops_the_execution(
    error: Exception,
    retries: int,
    policy: RetryPolicy | None,
    make_task: MakeTask,
    fail_first_push: FailPush,
    world: World,
) -> None:
    """
    If no try follows, an error stops the execution, and the task fails with that error.
    """
    fail_first_push(error)
    task = make_task(retries=retries, retry_policy=policy)

    run = task.next_try()
    world.control.advance(60)

    assert task.state == "failed"
    assert run.error is error
    assert world.log.statuses == ["Stopped"]
    assert len(world.tokens(STOP)) == 1


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

    world.deny("ListPipelineExecutions")
    world.deny(START, count=1)
    task.next_try(region_name="eu-west-1")
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]
    assert {call["region"] for call in world.control.calls(START)} == {"us-east-1"}
