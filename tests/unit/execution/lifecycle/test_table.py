"""The table of transitions is what the handlers do: no more, and no less."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Identified,
    Instruction,
)
from polysync_airflow.execution.lifecycle.instructions import (
    COSTS_MONEY,
    ENDS_THE_START,
    NOT_WHEN_KILLED,
    Accepted,
    AddedUp,
    ClearChoice,
    Command,
    Described,
    Event,
    ExecutionRecord,
    ExecutionsListed,
    Killed,
    Prepared,
    Refused,
    Started,
)
from polysync_airflow.execution.lifecycle.machine import (
    MAX_TIMES_UNKNOWN,
    TRANSITIONS,
    begin,
    transition_of,
)
from polysync_airflow.states import STATE_OF_STATUS
from tests.unit.execution.lifecycle.builders import (
    ARN,
    LIMITS,
    NOW,
    REFUSED_START,
    REQUEST,
    START_IN_PLACE,
    UNKNOWN_ARN,
    after,
    describe,
    edited,
    instruct,
    listed,
    make_try,
    refused,
    resumed,
    spending,
    stored,
)

WITH_ARN: list[ExecutionRecord | None] = [
    stored(),
    stored(replaced_by_epoch=3),
    stored(clear_choice=ClearChoice(on_clear="resume")),
    resumed(),
    resumed(resumed_at=NOW),
]
# What may be known when a command is given.
RECORDS: dict[Command, list[ExecutionRecord | None]] = {
    Command.LOOK_UP: [None, UNKNOWN_ARN],
    Command.RESEND_START: [UNKNOWN_ARN, START_IN_PLACE],
    Command.DESCRIBE: WITH_ARN,
    Command.ADD_UP: [stored()],
    Command.STOP: [stored()],
    Command.PREPARE: [None],
    Command.START: [UNKNOWN_ARN],
    Command.DESCRIBE_STARTED: [stored()],
    Command.LOOK_UP_STARTED: [UNKNOWN_ARN, START_IN_PLACE],
    Command.RESUME: [resumed()],
    Command.RESEND_RESUME: [resumed()],
    Command.DESCRIBE_RESUMED: [resumed(resumed_at=NOW)],
    Command.DESCRIBE_REFUSED: [resumed()],
    Command.WATCH: [stored()],
    Command.WAIT_FOR_END: [stored()],
    Command.WAIT_FOR_CAPACITY: [REFUSED_START],
    Command.FAIL: [None, stored()],
}
EVENTS: list[Event] = [
    Prepared(REQUEST, "eu-west-1"),
    Accepted(NOW),
    Started(NOW, ARN),
    Killed(),
    *(Described(NOW, describe(status)) for status in STATE_OF_STATUS),
    *(ExecutionsListed("fanout", executions) for executions in ([], [listed(2, 0)])),
    ExecutionsListed("fanout", [], claimed=describe("Executing")),
    *map(refused, ("ConflictException", "ResourceNotFound", "AccessDeniedException")),
    refused("ResourceLimitExceeded"),
    refused(transient=True),
    AddedUp(spending(1)),
    AddedUp(spending(2)),
]
# The events of a command, apart from a refusal and a kill, which may follow on each.
EXPECTED_EVENTS: dict[Command, set[type[Event]]] = {
    command: {*transitions, Refused, Killed}
    for command, transitions in TRANSITIONS.items()
}
# Their record is of the epoch of this try.
OF_THIS_EPOCH = {
    Command.START,
    Command.DESCRIBE_STARTED,
    Command.DESCRIBE_RESUMED,
    Command.ADD_UP,
}


def instructions_of(command: Command) -> Iterator[Instruction]:
    """Yield what a try may know when it has a command."""
    modes = itertools.product(["new", "resume"], ["new", "resume"], [True, False])
    for mode in modes:
        names = ("retry_mode", "on_clear", "stop_on_kill")
        options: dict[str, Any] = dict(zip(names, mode, strict=True))
        for number, epoch in ((1, 2), (3, 2), (3, 3)):
            task_try = make_try(number, epoch, capacity=LIMITS, **options)
            for each in RECORDS[command]:
                record = each
                if each and command in OF_THIS_EPOCH:
                    record = edited(each, epoch=epoch)
                instruction = instruct(command, task_try, record)
                if isinstance(instruction, Identified):
                    instruction = replace(instruction, started_at=NOW)
                    yield replace(instruction, times_unknown=MAX_TIMES_UNKNOWN)
                yield instruction
                limited = replace(task_try, has_cost_limit=True)
                yield replace(instruction, task_try=limited)
                if record is None:
                    lost = StoredRecordError("lost", record=None)
                    unproven = replace(task_try, unproven=lost)
                    yield replace(instruction, task_try=unproven)


@pytest.mark.parametrize("command", Command)
def test_handlers_return_what_the_table_declares(command: Command) -> None:
    """Each declared command follows in some case, and no other one in any."""
    seen: dict[type[Event], set[Command]] = defaultdict(set)
    for instruction, event in itertools.product(instructions_of(command), EVENTS):
        if type(event) in EXPECTED_EVENTS[command]:
            seen[type(event)].add(after(instruction, event).command)

    assert seen.keys() == EXPECTED_EVENTS[command]
    for kind, commands in seen.items():
        assert commands == set(transition_of(command, kind).follows)


def test_every_command_is_reached_and_ends() -> None:
    """
    From the first instruction, a try reaches each command, and from each command an end
    of its start.
    """
    records = [None, UNKNOWN_ARN, REFUSED_START, *WITH_ARN]
    beginnings = itertools.product((1, 2), records)
    first = {begin(make_try(n, 2), record).command for n, record in beginnings}
    reached = set(first)
    while True:
        following = {
            command
            for reached_command in reached
            for event in EXPECTED_EVENTS[reached_command]
            for command in transition_of(reached_command, event).follows
        }
        if following <= reached:
            break
        reached |= following

    assert first == {
        Command.PREPARE,
        Command.LOOK_UP,
        Command.DESCRIBE,
        Command.START,
    }
    assert reached == set(Command)
    ends = {command for command, transitions in TRANSITIONS.items() if not transitions}
    assert ends == ENDS_THE_START | {Command.FAIL}


def test_replaced_try_sends_nothing_that_costs_money() -> None:
    """AWS begins something by each request that it accepts, except for a stop."""
    accepted = {
        command
        for command in Command
        if {Accepted, Started} & set(TRANSITIONS[command])
    }

    assert accepted - {Command.STOP} == COSTS_MONEY


def test_killed_process_only_learns_what_runs_and_stops_it() -> None:
    """It begins nothing, and waits for nothing."""
    learns = {command for command in Command if Described in TRANSITIONS[command]}
    learns |= {Command.LOOK_UP_STARTED}

    assert set(Command) - NOT_WHEN_KILLED == {*learns, Command.STOP, Command.FAIL}
