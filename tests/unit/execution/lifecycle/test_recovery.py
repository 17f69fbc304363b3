"""
The decision core of a new try: a table of all combinations of epoch, status and
arguments.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle import decisions
from polysync_airflow.execution.lifecycle.decisions import (
    Nothing,
    next_command,
    next_step,
    planned_after_failure,
    unused_arguments,
)
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ClearChoice,
    Command,
    Described,
)
from polysync_airflow.execution.lifecycle.machine import TRANSITIONS
from polysync_airflow.execution.lifecycle.options import OnClear, RetryMode
from polysync_airflow.execution.lifecycle.plans import NextSession
from polysync_airflow.states import STATE_OF_STATUS, PolysyncState, state_of
from tests.unit.execution.lifecycle.builders import (
    ARN,
    NOW,
    REQUEST,
    choose,
    edited,
    resumed,
    stored,
)

# "*" matches any value. "Pausing" is not known to this version. "resume" is "open"
# if the last resume was stored and AWS has not responded.
TABLE = """
epoch  status                 resume  retry   clear   failures  stops  command

same   Executing              *       *       *       *         *      WATCH
same   Pausing                *       *       *       *         *      WATCH
same   Succeeded              *       *       *       *         *      WATCH
same   Stopping               *       *       *       *         *      WAIT_FOR_END
same   Stopped                *       *       *       *         *      PREPARE
same   Failed                 none    new     *       *         *      PREPARE
same   Failed                 none    resume  *       *         *      RESUME
same   Failed                 open    *       *       *         *      RESUME
same   CompletedWithFailures  none    *       *       succeed   *      WATCH
same   CompletedWithFailures  none    new     *       fail      *      PREPARE
same   CompletedWithFailures  none    resume  *       fail      *      RESUME
same   CompletedWithFailures  open    *       *       *         *      RESUME

new    Executing              *       *       *       *         yes    STOP
new    Executing              *       *       *       *         no     WAIT_FOR_END
new    Pausing                *       *       *       *         yes    STOP
new    Pausing                *       *       *       *         no     WAIT_FOR_END
new    Stopping               *       *       *       *         *      WAIT_FOR_END
new    Succeeded              *       *       *       *         *      PREPARE
new    Stopped                *       *       *       *         *      PREPARE
new    Failed                 none    *       new     *         *      PREPARE
new    Failed                 open    *       new     *         *      RESEND_RESUME
new    Failed                 *       *       resume  *         *      RESUME
new    CompletedWithFailures  none    *       new     *         *      PREPARE
new    CompletedWithFailures  open    *       new     *         *      RESEND_RESUME
new    CompletedWithFailures  none    *       resume  succeed   *      PREPARE
new    CompletedWithFailures  open    *       resume  succeed   *      RESEND_RESUME
new    CompletedWithFailures  *       *       resume  fail      *      RESUME
"""
COLUMNS, *ROWS = [tuple(line.split()) for line in TABLE.splitlines() if line]

EPOCHS = ("same", "new")
STATUSES = ("Pausing", *STATE_OF_STATUS)
RESUMES = ("none", "open")
RETRY_MODES: tuple[RetryMode, ...] = ("new", "resume")
ON_CLEAR: tuple[OnClear, ...] = ("new", "resume")
FAILURES = ("succeed", "fail")
MAY_STOP = ("yes", "no")


def row_of(*case: str) -> tuple[str, ...]:
    """Return the only row of the table that matches a case."""

    def matches(row: tuple[str, ...]) -> bool:
        cells = zip(row, case, strict=False)
        return all(cell in ("*", value) for cell, value in cells)

    (row,) = filter(matches, ROWS)
    return row


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("epoch", EPOCHS)
def test_command_is_the_one_in_the_table(epoch: str, status: str) -> None:
    """
    Exactly one row of the table matches each combination, and ``next_command`` returns
    its command.
    """
    records = {"none": stored(), "open": resumed()}
    # A user who lowers ``retries`` and clears the task begins a new epoch, too.
    epochs = {"same": [2], "new": [1, 3]}
    for case in product(RESUMES, RETRY_MODES, ON_CLEAR, FAILURES, MAY_STOP):
        resume, retry_mode, on_clear, failures, may_stop = case
        options = choose(
            retry_mode=retry_mode,
            on_clear=on_clear,
            on_completed_with_failures=failures,
            stop_on_kill=may_stop == "yes",
        )

        for number in epochs[epoch]:
            command = next_command(records[resume], number, status, options)
            assert command.name == row_of(epoch, status, *case)[-1], case


def test_every_row_matches_a_case() -> None:
    """
    The table has no row without a case, for example of a status that no longer exists.
    """
    options = (RESUMES, RETRY_MODES, ON_CLEAR, FAILURES, MAY_STOP)
    cases = product(EPOCHS, STATUSES, *options)

    assert {row_of(*case) for case in cases} == set(ROWS)
    # Before a resume and a replacement, what they cost may be added up.
    decided = set(TRANSITIONS[Command.DESCRIBE][Described].follows)
    decided -= {Command.ADD_UP}
    assert {row[-1] for row in ROWS} == {command.name for command in decided}


DELAY = timedelta(minutes=5)
RETRY, RESCHEDULE = (NextSession(DELAY, False, same) for same in (False, True))
NEXT_RETRY = "Next: Airflow retries the task in 5 min."
NEXT_RESCHEDULE = "Next: Airflow reschedules the task in 5 min, without using a retry."
NEXT_CLEAR = "Next: mend the cause, then clear the task."
ALL_AGAIN = "starts a new execution and repeats every step"
AFTER_FAIL_STEP = "since AWS does not resume after a Fail step."
RETRY_RESUMES = (
    " The retry resumes the execution: it repeats only the steps that had not"
    " succeeded."
)


CLEAR_RESUMES = " That or the button repeats only the steps that had not succeeded."


# The retry, the status, the option that counts, whether a Fail step has ended
# the execution, and what the message says.
MESSAGES: list[tuple[NextSession | None, str | None, str, bool, str]] = [
    (
        RETRY,
        "Failed",
        "new",
        False,
        f' The retry {ALL_AGAIN}; retry_mode="resume" would repeat only those that'
        " had not succeeded.",
    ),
    (RETRY, "Failed", "resume", False, RETRY_RESUMES),
    (RETRY, "CompletedWithFailures", "resume", False, RETRY_RESUMES),
    (
        RETRY,
        "Failed",
        "resume",
        True,
        f" The retry {ALL_AGAIN}, {AFTER_FAIL_STEP}",
    ),
    # Nobody resumes an execution that somebody has stopped.
    (RETRY, "Stopped", "resume", True, " The retry starts a new execution."),
    # It may still be running, then the retry goes on with it.
    (RETRY, None, "resume", False, ""),
    # A person has to do something only after the last try.
    (
        None,
        "Failed",
        "new",
        False,
        f' That {ALL_AGAIN}; on_clear="resume" or the button repeats only what had'
        " not succeeded.",
    ),
    (None, "Failed", "resume", False, CLEAR_RESUMES),
    (None, "CompletedWithFailures", "resume", False, CLEAR_RESUMES),
    (None, "Failed", "resume", True, f" That {ALL_AGAIN}, {AFTER_FAIL_STEP}"),
]


def test_message_says_what_a_retry_or_a_clear_does() -> None:
    """
    It follows by itself, whatever the other of the two would do; a rescheduled try does
    what a retry does.
    """

    def say(
        retry: NextSession | None, other: Any, status: Any, mode: Any, by_fail_step: Any
    ) -> str:
        options = choose(retry_mode=mode, on_clear=other)
        if retry is None:
            options = choose(retry_mode=other, on_clear=mode)
        told = next_step(
            stored(),
            status,
            options,
            retry,
            by_fail_step=by_fail_step,
            button="or the button ",
        )
        return " ".join(str(told).split())

    for (retry, status, mode, by_fail_step, text), other in product(MESSAGES, ON_CLEAR):
        case = (status, mode, by_fail_step)
        if retry is None:
            assert say(None, other, *case) == f"{NEXT_CLEAR}{text}"
            continue
        assert say(retry, other, *case) == f"{NEXT_RETRY}{text}"
        rescheduled = text.replace("The retry", "The task then")
        assert say(RESCHEDULE, other, *case) == f"{NEXT_RESCHEDULE}{rescheduled}"


@pytest.mark.parametrize("status", ["Stopped", None])
def test_message_has_no_next_step_after_a_stop(status: str | None) -> None:
    """A person has stopped it, or nobody knows how it has ended."""
    assert next_step(stored(), status, choose(), None) is None


def test_message_says_what_is_known_without_a_record() -> None:
    """Airflow does not respond, or nothing resumes that of another deployment."""
    for record, retry, clear in (
        (None, "", ""),
        (Nothing.FOUND, f" The retry {ALL_AGAIN}.", f" That {ALL_AGAIN}."),
    ):
        options = choose(retry_mode="resume", on_clear="resume")
        say = partial(next_step, record, "Failed", options, button="or the button ")

        assert " ".join(str(say(RETRY)).split()) == f"{NEXT_RETRY}{retry}"
        assert " ".join(str(say(None)).split()) == f"{NEXT_CLEAR}{clear}"


@pytest.mark.parametrize(
    ("modes", "by_fail_step", "expected"),
    [
        ({}, False, ("start", "start")),
        ({"retry_mode": "resume"}, False, ("start_or_resume", "start")),
        ({"on_clear": "resume"}, False, ("start", "start_or_resume")),
        # AWS refuses the resume.
        ({"retry_mode": "resume", "on_clear": "resume"}, True, ("start", "start")),
    ],
)
def test_plan_after_a_request_to_stop_knows_that_aws_may_end_it_otherwise(
    modes: Any, by_fail_step: bool, expected: tuple[str, str]
) -> None:
    """A Lambda step that takes too long lets the execution fail while it is stopped."""
    say = partial(planned_after_failure, options=choose(**modes), retry=RETRY, now=NOW)

    planned = say(stored(), "Stopping", by_fail_step=by_fail_step)

    assert (planned["retry"].does, planned["clear"]) == expected
    # Without the record, nothing is known of what has ended.
    assert say(None, "Stopping")["retry"].does is None
    assert say(None, "Executing")["retry"].does == "continue"
    # A process that was frozen may still resume what fails.
    assert say(resumed(), "Stopping", options=choose())["clear"] is None


def said_commands(text: str | None) -> set[Command]:
    """Return which commands a message means, of those after a failure."""
    words = " ".join(str(text).split())
    said = set[Command]()
    if "starts a new execution" in words:
        said.add(Command.PREPARE)
    for part in ("The retry resumes the execution", "That repeats only the steps"):
        if part in words:
            said.add(Command.RESUME)
    return said


ADVICE = ('retry_mode="resume" would repeat', 'on_clear="resume" repeats only')


def decide_nothing_new(decide: Any) -> Any:
    return decide


def resume_three_times(decide: Any) -> Any:
    """A limit of resumes, as a later version may have."""

    def limited(record: Any, *arguments: Any) -> Any:
        command = decide(record, *arguments)
        if command is Command.RESUME and record.resumes >= 3:
            return Command.PREPARE
        return command

    return limited


def resume_all(decide: Any) -> Any:
    return lambda *arguments: Command.RESUME


def resume_nothing(decide: Any) -> Any:
    def limited(*arguments: Any) -> Any:
        command = decide(*arguments)
        return Command.PREPARE if command is Command.RESUME else command

    return limited


def wait_for_all(decide: Any) -> Any:
    return lambda *arguments: Command.WAIT_FOR_END


RULES = [decide_nothing_new, resume_three_times, resume_all, resume_nothing]


@pytest.mark.parametrize("rule", [*RULES, wait_for_all])
@pytest.mark.parametrize("retry", [RETRY, None], ids=["retry", "clear"])
def test_message_follows_from_the_decision(
    rule: Any, retry: NextSession | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    For every record, status and option, also with other rules: it says what the next
    try does, and what another argument would do.
    """
    decide = rule(next_command)
    monkeypatch.setattr(decisions, "next_command", decide)
    after_failures = (Command.PREPARE, Command.RESUME)
    records = [stored(), edited(resumed(), resumes=3), stored(resumes=2)]
    records += [edited(record, resumed_at=NOW) for record in records[1:2]]
    cases = product(records, STATUSES, RETRY_MODES, ON_CLEAR, FAILURES, (False, True))
    for record, status, retry_mode, on_clear, failures, by_fail_step in cases:
        options = choose(
            retry_mode=retry_mode,
            on_clear=on_clear,
            on_completed_with_failures=failures,
        )
        epoch = record.epoch if retry else record.epoch + 1
        text = next_step(record, status, options, retry, by_fail_step=by_fail_step)

        has_failed = state_of(status) is PolysyncState.FAILED
        if text is None:
            assert not has_failed
            continue
        expected = {decide(record, epoch, status, options)}
        if by_fail_step and has_failed and expected <= set(after_failures):
            # AWS refuses the resume.
            assert said_commands(text) == {Command.PREPARE}
            assert "AWS does not resume after a Fail step" in text
            continue
        assert said_commands(text) == expected & set(after_failures), (text, record)
        other = options.model_copy(
            update={"retry_mode" if retry else "on_clear": "resume"}
        )
        resumes = decide(record, epoch, status, other) is Command.RESUME
        is_advised = ADVICE[retry is None] in text
        advises = has_failed and resumes and expected == {Command.PREPARE}
        assert is_advised is advises, (text, record)
        if not said_commands(text):
            assert text in (NEXT_RETRY, NEXT_CLEAR)
        if has_failed and expected == {Command.PREPARE} and not advises:
            assert text.endswith("repeats every step.")


def resume_without_choice(decide: Any) -> Any:
    return lambda record, *arguments: (
        Command.PREPARE if record.clear_choice else decide(record, *arguments)
    )


@pytest.mark.parametrize("rule", [*RULES, resume_without_choice])
@pytest.mark.parametrize("status", STATUSES)
def test_message_names_the_button_if_that_resumes(
    status: str, rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The button is in the tab of a task whose execution has failed."""
    decide = rule(next_command)
    monkeypatch.setattr(decisions, "next_command", decide)
    record = stored(resumes=3)
    chosen = edited(record, clear_choice=ClearChoice(on_clear="resume"))
    for on_clear in ON_CLEAR:
        options = choose(on_clear=on_clear)
        text = str(next_step(record, status, options, None, button="or the button "))

        command = decide(record, record.epoch + 1, status, options)
        other = decide(record, record.epoch + 1, status, choose(on_clear="resume"))
        resumes = decide(chosen, record.epoch + 1, status, options)
        is_told = Command.RESUME in (command, other) and text != "None"
        names_button = is_told and resumes is Command.RESUME
        assert ("the button" in text) is names_button
        if is_told and not names_button:
            assert "That repeats only" in text or ADVICE[1] in text


@pytest.mark.parametrize("status", ["Failed", "CompletedWithFailures"])
def test_execution_that_this_epoch_replaces_is_not_resumed(status: str) -> None:
    """
    It was running when the user cleared the task, also if the user chose to resume. A
    later clear decides again.
    """
    replaced = stored(replaced_by_epoch=3)
    chosen = edited(replaced, clear_choice=ClearChoice(on_clear="resume", epoch=3))

    resume = choose(on_clear="resume")
    for record in (replaced, chosen):
        assert next_command(record, 3, status, resume) is Command.PREPARE
    assert next_command(replaced, 4, status, resume) is Command.RESUME


@pytest.mark.parametrize(
    ("stops", "ends"), [(True, Command.STOP), (False, Command.WAIT_FOR_END)]
)
def test_later_clear_does_not_resume_an_earlier_task_instance(
    stops: bool, ends: Command
) -> None:
    """Its first try has ended before it could replace it. Only a choice resumes it."""
    record = stored(epoch=NO_EPOCH, replaced_by_epoch=2)
    options = choose(on_clear="resume", stop_on_clear=stops)

    assert next_command(record, 3, "Failed", options) is Command.PREPARE
    assert next_command(record, 3, "Executing", options) is ends

    choice = ClearChoice(on_clear="resume")
    chosen = edited(record, clear_choice=choice)
    assert next_command(chosen, 3, "Failed", options) is Command.RESUME


@pytest.mark.parametrize("status", STATUSES)
def test_group_of_steps_keeps_what_it_goes_on_with(status: str) -> None:
    """Its choice follows from the status, which may have changed since."""
    plain = stored()

    waits = next_command(plain, 3, status, choose(stop_on_clear=False))
    resumes = next_command(
        plain, 3, status, choose(stop_on_clear=False, on_clear="resume")
    )

    assert waits is Command.WAIT_FOR_END
    assert resumes is next_command(plain, 2, status, choose(retry_mode="resume"))


@pytest.mark.parametrize(
    "of_epoch",
    [{"replaced_by_epoch": 3}, {"clear_choice": ClearChoice(on_clear="new", epoch=3)}],
)
def test_group_of_steps_replaces_what_was_given_up(of_epoch: Any) -> None:
    """Whatever the tasks of the steps say."""
    record = stored(**of_epoch)

    for on_clear in ON_CLEAR:
        options = choose(stop_on_clear=False, on_clear=on_clear)
        assert next_command(record, 3, "Failed", options) is Command.PREPARE


@pytest.mark.parametrize("status", STATUSES)
def test_choice_of_a_clear_takes_the_place_of_on_clear(status: str) -> None:
    """
    It counts in the epoch that its clear has begun, also where the failures count as a
    success.

    Who chose to resume wants the end of this execution, as a retry does: somebody may
    have resumed it elsewhere.
    """
    plain = stored()
    as_chosen = {
        "new": next_command(plain, 3, status, choose()),
        "resume": next_command(plain, 2, status, choose(retry_mode="resume")),
    }
    for chosen, on_clear, failures in product(ON_CLEAR, ON_CLEAR, FAILURES):
        options = choose(on_clear=on_clear, on_completed_with_failures=failures)
        of_this_clear = ClearChoice(on_clear=chosen, epoch=3)
        record = stored(clear_choice=of_this_clear)
        assert next_command(record, 3, status, options) is as_chosen[chosen]

        # After its clear, a choice decides neither about another one nor about retries.
        record = stored(clear_choice=ClearChoice(on_clear=chosen, epoch=2))
        for epoch in (2, 3):
            without_choice = next_command(plain, epoch, status, options)
            assert next_command(record, epoch, status, options) is without_choice


def test_arguments_that_a_resume_ignores_are_named() -> None:
    """
    The values that a resume ignores are named; what differs in each try is not
    compared.
    """
    sent = edited(REQUEST, pipeline_parameters={"Day": "1", "Shards": "4"})
    current = edited(
        sent,
        pipeline_parameters={"Day": "2", "Shards": "4", "New": "y"},
        max_parallel_steps=3,
        execution_display_name="other",
        execution_description="other",
        client_request_token="polysync-".ljust(40, "2"),
    )

    parameters = {"Day": "1", "Shards": "4", "Default": "x"}
    assert unused_arguments(sent, parameters, sent) == []
    assert unused_arguments(sent, parameters, current) == [
        "max_parallel_steps",
        "pipeline_parameters['Day']",
        "pipeline_parameters['New']",
    ]
    # AWS has not told them.
    assert unused_arguments(sent, {}, current) == ["max_parallel_steps"]


def test_source_latest_is_no_change_after_a_start_with_its_arn() -> None:
    """``latest`` may be another execution now, but the author has changed nothing."""
    for sent, current, names in (
        # The record has the ARN of what was the latest execution at the start.
        (ARN, "latest", []),
        (ARN, f"{ARN}2", ["source_execution"]),
        (None, "latest", ["source_execution"]),
    ):
        before = edited(REQUEST, source_execution=sent)
        now = edited(REQUEST, source_execution=current)

        assert unused_arguments(before, {}, now) == names
