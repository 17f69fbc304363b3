"""A new epoch, after a user's clear: a new execution, and never two at once."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PipelineExecutionTimeoutError, SageMakerApiError
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    DESCRIBE,
    MERGE_FAILS,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    DeathError,
    Ledger,
    Task,
    Wire,
    calls,
    die,
)
from tests.tasks import EmulatedTime


def die_waiting(task: Task, time: EmulatedTime, **arguments: Any) -> None:
    """Let a try die in its wait."""
    time.after(100, die)
    assert isinstance(task.next_try(**arguments).error, DeathError)


def test_what_runs_is_stopped_and_its_end_awaited(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The user wants it anew: the old execution is stopped, and only after its end the new one starts."""
    task = make_task()
    die_waiting(task, emulated_time, pipeline_parameters={"Shards": 4})
    task.clear()

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1
    assert run.result == run.xcoms["execution_arn"] == run.xcoms["run"]["execution_arn"] == ledger.arns[1]
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert (task.record["epoch"], task.record["execution_arn"]) == (task.max_tries, ledger.arns[1])


@pytest.mark.parametrize(
    ("scenario", "ends"),
    [
        ({}, "Succeeded"),
        (MERGE_FAILS, "Failed"),
        ({"end_as": "CompletedWithFailures"}, "CompletedWithFailures"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_what_has_ended_is_neither_adopted_nor_resumed(
    retry_mode: str,
    scenario: dict[str, Any],
    ends: str,
    make_task: MakeTask,
    ledger: Ledger,
    emulator: EmulatorServer,
) -> None:
    """Whatever came of the old one, a clear runs the pipeline again, from its first step."""
    emulator.control.put_scenario(scenario)
    task = make_task(retry_mode=retry_mode, on_completed_with_failures="succeed", retries=0)
    task.next_try()
    task.clear()
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == [ends, "Succeeded"]
    assert calls(emulator, START, STOP, RETRY) == [START]


def test_a_clear_of_a_clear(make_task: MakeTask, ledger: Ledger, emulated_time: EmulatedTime) -> None:
    """Impatient users clear twice: three executions, one after the other."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.clear()
    die_waiting(task, emulated_time)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Stopped", "Succeeded"]
    assert ledger.most_at_once == 1


def test_the_retry_of_a_cleared_try_adopts_the_new_one(
    make_task: MakeTask, ledger: Ledger, emulated_time: EmulatedTime
) -> None:
    """The clear counts once: the next retry is in the same epoch again."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.clear()
    emulated_time.after(200, die)
    assert isinstance(task.next_try().error, DeathError)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]


def test_what_is_stopping_already_is_waited_for(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A second stop would be refused; there is nothing to do but wait."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.operator.hook.stop_pipeline_execution(ledger.arns[0])
    emulator.control.clear_calls()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP) == [START]
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1


def test_what_ends_between_the_look_and_the_stop_is_no_hindrance(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """AWS refuses to stop what is over: a look behind the refusal tells, and the new one starts."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.clear()
    wire.before(STOP, lambda _: emulator.control.advance(3600))

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded", "Succeeded"]
    assert run.result == ledger.arns[1]


def test_without_stopping_the_natural_end_is_awaited(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``stop_on_kill=False`` holds for a clear, too: the old execution runs to its end, then the new one starts."""
    task = make_task(stop_on_kill=False)
    die_waiting(task, emulated_time)
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert ledger.statuses == ["Succeeded", "Succeeded"]
    assert run.result == ledger.arns[1]
    assert ledger.most_at_once == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_unknown_arn_is_learnt_before_anything_is_started(
    moment: str, make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """
    The old try died around its start: AWS is asked again with the old token, and what it has is stopped.

    If there was nothing, there is now, for a moment: that is the price of being sure.
    """
    task = make_task()
    (wire.before if moment == "before" else wire.after)(START, die)
    task.next_try(pipeline_parameters={"Shards": 4})
    task.clear()

    run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}


@pytest.mark.parametrize("code", ["ValidationException", "ResourceNotFound"])
def test_a_start_that_aws_finds_impossible_was_never_made(
    code: str, make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The old request is refused for its content: no execution bears its token, and the new one may start."""
    task = make_task()
    wire.before(START, die)
    task.next_try()
    task.clear()
    emulator.control.add_fault("error", START, code=code, message="no", count=1)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert task.record["epoch"] == task.max_tries


def test_an_unknown_arn_that_cannot_be_learnt_holds_everything_up(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """If AWS will not say whether the old one runs (AccessDenied), nothing is started beside it."""
    task = make_task()
    wire.after(START, die)
    task.next_try()
    record = task.record
    task.clear()
    emulator.control.add_fault("error", START, code="AccessDeniedException", message="not you")

    run = task.next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert len(ledger.arns) == 1
    assert task.record == record


def test_a_stop_that_is_refused_holds_everything_up(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The old one runs and may not be stopped: the error says so, and no other is started beside it."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.clear()
    emulator.control.add_fault("error", STOP, code="AccessDeniedException", message="not you")

    run = task.next_try()

    assert "sagemaker:StopPipelineExecution" in str(run.error)
    assert ledger.statuses == ["Executing"]


def test_an_end_that_does_not_come_ends_the_try(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A step that cannot be interrupted holds the stop up beyond ``timeout``: an error says whose fault it is."""
    task = make_task(pipeline_name="callback-lambda", pipeline_parameters={"Approver": "me"}, timeout=1800)
    emulated_time.after(400, die)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "It is of an earlier try; no other was started beside it." in str(run.error)
    assert task.state == "up_for_retry"
    assert ledger.statuses == ["Stopping"]


def test_time_spent_behind_the_old_one_is_not_taken_from_the_new_one(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The new execution has its whole ``timeout``, and the start its whole patience with AWS."""
    task = make_task(stop_on_kill=False, timeout=550)
    die_waiting(task, emulated_time)
    task.clear()
    # Throttled for longer than would be left after a wait of 400 s behind the old execution.
    emulator.control.add_fault("throttle", START, count=9)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded", "Succeeded"]


def test_passing_faults_behind_the_old_one_pass(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Throttling and lost answers on each call of a clear are waited out."""
    task = make_task()
    die_waiting(task, emulated_time)
    task.clear()
    for operation in (DESCRIBE, STOP, START):
        emulator.control.add_fault("throttle", operation, count=2)
        emulator.control.add_fault("lost_response", operation, count=1)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1


def test_an_old_execution_that_is_gone_is_no_hindrance(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """What AWS no longer knows neither runs nor needs a stop."""
    task = make_task()
    die_waiting(task, emulated_time)
    (record,) = ledger.executions
    record.pipeline.executions.clear()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, STOP) == []
    assert ledger.statuses == ["Succeeded"]


def test_who_does_not_wait_still_waits_behind_the_old_one(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``wait_for_completion=False``: the old execution is stopped and its end awaited, the new one is not."""
    task = make_task(wait_for_completion=False)
    task.next_try()
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Executing"]
    assert ledger.most_at_once == 1
    assert run.result == ledger.arns[1]


def test_a_resumed_execution_is_stopped_though_it_was_stopped_before(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A stop token is an attempt's: with the first attempt's, AWS would take the stop for done already."""
    emulator.control.put_scenario({"steps": {"Merge": {"fail": {"times": 1}, "duration": 230}}})
    task = make_task(retry_mode="resume", poll_interval=20)
    emulated_time.after(460, die)
    task.next_try()
    # The first attempt's stop comes too late: the last step fails while it is under way.
    task.operator.hook.stop_pipeline_execution(ledger.arns[0], attempt=0)
    emulator.control.advance(60)
    assert ledger.statuses == ["Failed"]
    emulator.control.put_scenario(NEVER_ENDS)
    die_waiting(task, emulated_time)
    assert calls(emulator, RETRY) == [RETRY]
    assert ledger.statuses == ["Executing"]
    emulator.control.put_scenario({})
    task.clear()

    run = task.next_try()

    assert run.error is None
    assert [status for *_, status in ledger.spans] == ["Failed", "Stopped", "Succeeded"]
    assert ledger.statuses == ["Stopped", "Succeeded"]
