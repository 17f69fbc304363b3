"""
Which failures are for want of capacity, how long the pauses are, and what a try does
before and after them.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

import pytest

from polysync_airflow.execution.lifecycle import capacity, ending, instructions, orphans
from polysync_airflow.execution.lifecycle.decisions import next_command
from polysync_airflow.execution.lifecycle.instructions import (
    Command,
    ExecutionRecord,
    Store,
)
from polysync_airflow.execution.lifecycle.machine import begin
from tests.unit.execution.lifecycle.builders import (
    LIMITS,
    NOW,
    REFUSED_START,
    REPLACED,
    REQUEST,
    UNKNOWN_ARN,
    WAIT,
    WRITTEN,
    choose,
    described,
    does,
    edited,
    follows,
    lines_of,
    make_try,
    refused,
    resumed,
    stored,
)

NO_INSTANCES = "CapacityError: Unable to provision requested ML compute capacity."
NOT_THERE = "CapacityError: ml.t3.medium is not available in this region"
UNUSED = "The account-level service limit 'ml.g5.xlarge' is {} Instances."


def quota(limit: int, requested: int = 1) -> str:
    """Return AWS's text about a quota of instances."""
    return (
        "ClientError: Failed to invoke sagemaker:CreateProcessingJob. Error Details: The"
        f" account-level service limit 'ml.m5.large for processing job usage' is {limit}"
        f" Instances, with current utilization of {limit} Instances and a request delta"
        f" of {requested} Instances. Please contact AWS support."
    )


def test_execution_lacks_capacity_if_all_that_failed_does() -> None:
    """Otherwise another attempt would fail as well."""
    for lacks in (
        [NO_INSTANCES],
        ["InsufficientInstanceCapacity: none", quota(4, 4)],
        [UNUSED.format(1)],
        # Python converts no text of more than 4,300 digits to a number.
        [UNUSED.format("9" * 5000)],
    ):
        assert capacity.lacked_by(lacks) == lacks[0]
    for reasons in (
        [UNUSED.format(0)],
        [quota(0)],
        [quota(1, 2)],
        [NO_INSTANCES, NOT_THERE],
        [NO_INSTANCES, "AlgorithmError: no data"],
        [f"AlgorithmError: {NO_INSTANCES}"],
        [NO_INSTANCES, None],
        [],
    ):
        assert capacity.lacked_by(reasons) is None


def test_pauses_double_up_to_ten_minutes_and_end_at_the_timeout() -> None:
    """Each is longer or shorter by up to a quarter. The next try waits anew."""
    limits = capacity.CapacityLimits(first_pause=60, timeout=3600)
    after_pause = partial(
        capacity.next_wait, limits=limits, token="token", nothing_runs=True
    )
    wait = None
    now = NOW
    for mean in (60, 120, 240, 480, 600, 600):
        wait = after_pause(wait, "full", try_number=1, now=now)
        assert wait is not None
        assert wait.since == NOW
        assert 0.75 * mean <= (wait.asks_at - now).total_seconds() <= 1.25 * mean
        now = wait.asks_at
    late = NOW + timedelta(minutes=59, seconds=50)
    last = after_pause(wait, "full", try_number=1, now=late)
    assert last is not None
    assert last.asks_at == NOW + timedelta(hours=1)
    just_in_time = last.asks_at - timedelta(seconds=10)
    assert after_pause(last, "full", try_number=1, now=just_in_time) is not None
    assert after_pause(last, "full", try_number=1, now=last.asks_at) is None
    assert after_pause(last, "full", try_number=2, now=last.asks_at) is not None


@pytest.mark.parametrize("first_pause", [1.0, 8.0])
def test_pause_is_long_enough_for_airflow(first_pause: float) -> None:
    """Airflow may fail a deferred task that goes on within seconds."""
    limits = capacity.CapacityLimits(first_pause, timeout=3600)

    wait = capacity.next_wait(
        None, "full", limits, try_number=1, now=NOW, token="x", nothing_runs=True
    )

    assert wait is not None
    assert wait.asks_at == NOW + timedelta(seconds=10)


def test_requests_of_many_tasks_are_spread_over_half_a_pause() -> None:
    """Each token has a pause of its own, so that not all ask at the same moment."""
    waits = [
        capacity.next_wait(
            None,
            "full",
            capacity.CapacityLimits(first_pause=100, timeout=3600),
            try_number=1,
            now=NOW,
            token=f"polysync-{number}",
            nothing_runs=True,
        )
        for number in range(100)
    ]
    pauses = [(wait.asks_at - NOW).total_seconds() for wait in waits if wait]
    assert len(pauses) == 100
    assert 75 <= min(pauses) < 80
    assert 120 < max(pauses) <= 125


def test_request_that_lacks_capacity_is_stored_with_what_is_certain() -> None:
    """It is not, if an earlier attempt of the request may have succeeded."""
    for command, record, epoch, repeated, nothing_runs in (
        (Command.START, UNKNOWN_ARN, 2, False, True),
        (Command.START, UNKNOWN_ARN, 2, True, False),
        (Command.RESEND_START, UNKNOWN_ARN, 2, False, False),
        (Command.RESUME, resumed(), 2, False, True),
        (Command.RESUME, resumed(), 2, True, False),
        (Command.RESEND_RESUME, resumed(), 3, False, False),
    ):
        refusal = refused("ResourceLimitExceeded", repeated=repeated)

        waiting = follows(command, record, refusal, epoch=epoch, capacity=LIMITS)

        assert waiting.command is Command.WAIT_FOR_CAPACITY
        assert waiting.store == waiting.record
        assert waiting.record.waits_for_capacity is nothing_runs
        wait = waiting.record.capacity
        assert wait is not None
        assert wait.reason == "AWS said no"
        impatient = follows(command, record, refusal, epoch=epoch)
        assert impatient.command is Command.FAIL


def test_refused_request_continues_the_wait_of_its_record() -> None:
    """It is the second pause since then, and its length follows from the token."""
    quota_refusal = refused("ResourceLimitExceeded")
    refuse = partial(follows, Command.START, event=quota_refusal, number=2)
    other_request = REQUEST.model_copy(update={"client_request_token": "x" * 32})
    other = edited(REFUSED_START, request=other_request)

    wait = refuse(REFUSED_START, capacity=LIMITS).record.capacity
    other_wait = refuse(other, capacity=LIMITS).record.capacity

    assert wait is not None
    assert other_wait is not None
    assert wait.since == WAIT.since
    assert wait.pauses == 2
    assert wait.asks_at != other_wait.asks_at


OTHER = instructions.Incarnation(dag_run_started_at=NOW)
CHOSEN = instructions.ClearChoice(on_clear="new")


def test_refused_start_is_sent_again_by_its_epoch_only() -> None:
    """Before it is sent, the record says that something may run."""
    for record, epoch, command, store in (
        (REFUSED_START, 2, Command.START, WRITTEN),
        (REFUSED_START, 3, Command.PREPARE, Store.DELETE),
        (
            edited(REFUSED_START, replaces=REPLACED),
            3,
            Command.DESCRIBE,
            WRITTEN,
        ),
        (
            edited(REFUSED_START, clear_choice=CHOSEN),
            2,
            Command.PREPARE,
            Store.DELETE,
        ),
        (
            edited(REFUSED_START, incarnation=OTHER),
            2,
            Command.PREPARE,
            Store.DELETE,
        ),
    ):
        instruction = begin(make_try(3, epoch), record)

        assert does(instruction)[:2] == (command, store)
        text = "The start that waited for capacity is not sent, after a clear."
        if command is not Command.START:
            assert (logging.INFO, text) in lines_of(instruction)
            continue
        assert instruction.lines == ()
        request = edited(WAIT, nothing_runs=False)
        assert instruction.record == edited(record, try_number=3, capacity=request)


def test_refused_start_is_sent_again_after_a_clear_of_its_run_by_a_later_try() -> None:
    """The number of the try tells the clear of a DAG run from a new one."""
    cleared = instructions.Incarnation(dag_run_started_at=NOW, clear_number=1)

    same_try = begin(make_try(2, 2, cleared), REFUSED_START)
    later_try = begin(make_try(3, 2, cleared), REFUSED_START)

    assert same_try.command is Command.PREPARE
    assert later_try.command is Command.START


@pytest.mark.parametrize(
    "record",
    [stored(), resumed(), resumed(resumed_at=NOW)],
)
def test_failed_execution_is_resumed_with_a_new_token_unless_the_task_is_cleared(
    record: ExecutionRecord,
) -> None:
    """
    AWS has answered the earlier resume, so a clear need not repeat it. If somebody has
    resumed it meanwhile, it is stopped as any other.
    """
    record = edited(record, capacity=WAIT)

    retry = follows(Command.DESCRIBE, record, described("Failed"), number=2)

    assert retry.command is Command.RESUME
    assert retry.record.resume_token != record.resume_token
    assert not retry.record.waits_for_capacity
    assert next_command(record, 3, "Failed", choose()) is Command.PREPARE
    for epoch, replaced_by in ((2, None), (3, 3)):
        running = described("Executing")
        instruction = follows(Command.DESCRIBE, record, running, epoch=epoch)
        assert instruction.store == instruction.record
        assert instruction.record.capacity is None
        assert not instruction.record.resume_is_pending
        assert instruction.record.replaced_by_epoch == replaced_by


@pytest.mark.parametrize("record", [REFUSED_START, stored(capacity=WAIT)])
def test_nothing_is_stopped_while_nothing_runs(record: ExecutionRecord) -> None:
    """
    Neither by the process, nor by the failure callback, nor by the watch. A clear of a
    running task, which keeps the epoch, must still end it.
    """
    stop = instructions.UnattendedStop(polysync_conn_id="aws")
    failed = orphans.TaskSnapshot(exists=True, state="failed", try_number=2)
    verdict = orphans.judge_task(edited(record, unattended_stop=stop), failed)
    text = "Nothing runs: the task waits for capacity."
    assert verdict == orphans.Verdict(orphans.Finding.OVER, text)
    ended = ending.leave(record, 2, stop_on_kill=True)
    assert ended.action is ending.EndAction.DONE
    assert ended.text == "Nothing runs, because the task waits for capacity."
    signalled = ending.leave(record, 2, stop_on_kill=True, is_signalled=True)
    assert signalled.owned_by(ending.Owner.NOBODY).action is ending.EndAction.END_EPOCH
    assert signalled.owned_by(ending.Owner.THIS_TRY).is_shutdown
