"""
The progress of an execution while a task waits: when its steps are listed, and what the
log says of them.

Rules, for a wait on a worker and for a trigger:

1. A list of steps costs a call for each execution. So the steps are listed only after a
   poll that has succeeded: after the first one, and then at most once in the interval.
2. The wait needs the calls more: after a throttled call, no steps are listed for a
   minute.
3. After another transient error, the steps are listed again after the interval.
4. After any other error, for example because the permission is missing, the steps are
   never listed again. The log says so in one line. The wait goes on.
5. While a task waits for a step and the steps were never listed, they are listed after
   each poll. The same holds if another process, which does not know what was logged,
   makes the next poll. The log has no lines then.
6. If AWS refuses to list the steps before they were listed once, the wait for a step
   fails. So does a wait whose task has a limit of its cost, whenever AWS refuses. After
   any other error, such a wait lists them again.
7. The log has at most ``MAX_LINES`` lines about one list, so that thousands of steps do
   not stop the event loop of a triggerer.
8. A wait that shows no steps, but whose task has a limit of its cost, lists them after
   each poll, and at most every ``MIN_PROGRESS_INTERVAL``.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from polysync_airflow import states
from polysync_airflow.exceptions import ParametersError, PolysyncError, is_throttling
from polysync_airflow.execution import models, parameters, texts, trigger_arguments
from polysync_airflow.execution.pipelines import DeclaredStep, all_steps, step_named
from polysync_airflow.execution.steps.descriptions import (
    StepDescription,
    StepRow,
    order_of,
)
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    KnownSteps,
    LogLine,
    check_event,
)

THROTTLING_PAUSE_SECONDS: Final = 60.0
# Lines about one list. A pipeline has at most 50 steps, unless AWS allows an account
# more.
MAX_LINES: Final = 50


# A triggerer holds thousands of them. A text in place of a dict is one object for the
# garbage collector.
@dataclass(slots=True)
class Progress:
    """
    When the steps of an execution are listed next, and what the log says of them.

    :param interval: seconds between two lists.
    :param due: when they are listed next, in seconds by the clock of the caller.
    :param logged_statuses: the statuses by step that the log has, in JSON.
    :param resumed_at: when the execution was resumed last; None if it was not.
    :param is_repeated: another process makes the next poll.
    :param must_list: a task waits for a step, and the steps were not listed yet.
    :param is_awaited: a trigger waits for a step, so that its lists come before those
        that are only shown.
    :param is_shown: whether the log, and the XCom ``steps``, show the steps.
    """

    interval: float
    due: float = 0.0
    logged_statuses: str = "{}"
    resumed_at: datetime | None = None
    is_repeated: bool = False
    must_list: bool = False
    is_awaited: bool = False
    is_shown: bool = True

    @classmethod
    def for_limit(cls, waiter: ExecutionWaiter) -> Progress | None:
        """
        Return when a wait that shows no steps lists them (rule 8); None for never.
        """
        if waiter.cost_limit is None:
            return None
        # Half of the interval, because polls are not exactly on time.
        interval = max(models.MIN_PROGRESS_INTERVAL, waiter.poll_interval / 2)
        return cls(interval, is_awaited=True, is_shown=False)

    @property
    def is_quiet(self) -> bool:
        """Whether the log has no lines about the next list."""
        return self.is_repeated or self.must_list

    def after_poll(self, error: PolysyncError | None, now: float) -> bool:
        """
        Return whether to list the steps now, after a poll that has not ended the wait.

        :param error: the error of the poll; None if it has succeeded.
        :param now: the time by the clock of the caller, in seconds.
        """
        if is_throttling(error):
            self.pause(now)
        if error:
            return False
        if self.is_quiet:
            return True
        if now < self.due:
            return False
        self.due = now + self.interval
        return True

    def after_list(
        self,
        waiter: ExecutionWaiter,
        result: Sequence[StepDescription] | BaseException,
        now: float,
    ) -> Sequence[LogLine]:
        """
        Record the statuses of the steps, and return lines about those that have
        changed.

        :param waiter: the wait, which may have a limit of the cost.
        :param result: AWS's list, or the error.
        :raises PolysyncError: the error, if the steps are needed and can never be
            listed.
        """
        if not isinstance(result, BaseException):
            is_quiet = self.is_quiet
            self.must_list = False
            if is_quiet or not self.is_shown:
                return ()
            return self.update(result)
        is_transient = isinstance(result, PolysyncError) and result.transient
        has_limit = waiter.cost_limit is not None
        is_needed = self.must_list or has_limit
        if is_needed and isinstance(result, PolysyncError) and not is_transient:
            raise result
        if is_throttling(result):
            self.pause(now)
            return ()
        if is_transient:
            return ()
        if not has_limit:
            self.due = math.inf
        if self.is_quiet:
            return ()
        reason = texts.clean_text(repr(result))
        if isinstance(result, PolysyncError):
            reason = str(result)
        text = f"The log has no lines about steps: {reason}"
        if has_limit:
            text = f"The steps cannot be listed; asking again: {reason}"
        return (LogLine(logging.WARNING, text),)

    def postpone(self, now: float) -> None:
        """List no steps for the interval, because another wait has just listed them."""
        self.due = max(self.due, now + self.interval)

    def pause(self, now: float) -> None:
        """List no steps for a minute, because AWS has throttled a call."""
        self.due = max(self.due, now + THROTTLING_PAUSE_SECONDS)

    def update(self, steps: Sequence[StepDescription]) -> list[LogLine]:
        """
        Record the statuses of the steps, and return lines about those that have
        changed.
        """
        self.logged_statuses, lines = changes_of(
            self.logged_statuses, steps, self.resumed_at
        )
        return lines


def changes_of(
    logged_statuses: str, steps: Sequence[StepDescription], resumed_at: datetime | None
) -> tuple[str, list[LogLine]]:
    """
    Return the statuses of steps, as ``Progress.logged_statuses`` has them, and lines
    about those that have changed.

    If too many have changed, the failed ones have lines first, and one line counts
    those that are left out.

    :param logged_statuses: the statuses before.
    :param resumed_at: when the execution was resumed last; None if it was not.
    """
    before: dict[str, str] = json.loads(logged_statuses)
    after = {step.name: _logged(step.status, step.attempt_count) for step in steps}
    changed = [step for step in steps if before.get(step.name) != after[step.name]]
    left_out = len(changed) - MAX_LINES
    if left_out > 0:
        changed.sort(key=lambda step: _level(step) != logging.ERROR)
        del changed[MAX_LINES:]

    def change(step: StepDescription) -> tuple[Any, ...]:
        # Steps without a time come first.
        if step.started_at is None:
            return ()
        return step.ended_at or step.started_at, step.name

    changed.sort(key=change)
    # An entry of the log takes a millisecond of a triggerer's CPU, so it has the lines
    # of several steps.
    lines = [
        LogLine(level, "\n".join(_line(step, resumed_at) for step in steps))
        for level, steps in groupby(changed, key=_level)
    ]
    if left_out > 0:
        lines.append(LogLine(logging.INFO, f"{left_out:,} more steps changed"))
    return json.dumps(after), lines


def logged_statuses_of(rows: Sequence[StepRow]) -> str:
    """
    Return the statuses that were logged, as ``Progress.logged_statuses`` has them, from
    the rows of the XCom ``steps``.
    """
    return json.dumps(
        {row.name: _logged(row.status, row.attempt) for row in rows if row.status}
    )


def shortened(logged_statuses: str, declared_steps: str) -> KnownSteps | None:
    """
    Return the statuses that were logged as ``ExecutionEvent.known_steps`` has them;
    None if not all of these steps are declared.

    :param declared_steps: the steps of the definition, as ``order_text`` returns them.
    """
    statuses: dict[str, str] = json.loads(logged_statuses)
    names = [step.name for step in order_of(declared_steps)]
    if not statuses.keys() <= set(names):
        return None
    runs = groupby(statuses.get(name, "") for name in names)
    return tuple((status, len(list(run))) for status, run in runs)


def lengthened(known_steps: KnownSteps, declared_steps: str) -> str:
    """Return the statuses that were logged, from what ``shortened`` has returned."""
    names = (step.name for step in order_of(declared_steps))
    statuses: dict[str, str] = {}
    for status, count in known_steps:
        run = dict.fromkeys(islice(names, count), status)
        if status:
            statuses |= run
    return json.dumps(statuses)


def _logged(status: str | None, attempt: int | None) -> str:
    if status == states.STATUS_STARTING:
        # Such a step is soon Executing, which is no news.
        status = states.STATUS_EXECUTING
    return f"{status} {attempt or 1}"


def _level(step: StepDescription) -> int:
    if step.state is states.PolysyncState.FAILED:
        return logging.ERROR
    return logging.INFO


def _line(step: StepDescription, resumed_at: datetime | None) -> str:
    state = step.state
    if state is states.PolysyncState.SUCCESS and step.cache_hit:
        return f"Step {step.name} succeeded: its result was in the cache"
    if state is states.PolysyncState.SUCCESS and step.reused_from:
        source = step.reused_from.rsplit("/")[-1]
        return f"Step {step.name} was not selected: its result is that of {source}"

    line = f"Step {step.name} {_verb(step.status)}"
    if states.has_ended(step.status) and step.seconds is not None:
        line += f" after {texts.format_seconds(step.seconds)}"
    attempt = step.attempt_count or 1
    if attempt > 1:
        line += f" (attempt {attempt})"
    if resumed_at and step.ended_at and step.ended_at < resumed_at:
        line += ", before the last resume"
    if step.failure_reason:
        reason = texts.clean_text(step.failure_reason, texts.MAX_REASON_LENGTH)
        line += f": {reason}"
    return line


_VERBS: Final = {**states.VERBS, states.PolysyncState.RUNNING: "started"}


def _verb(status: str | None) -> str:
    if status == states.STATUS_STOPPING:
        return "is stopping"
    state = states.state_of_step(status)
    return _VERBS.get(state, f"has the unknown status {status}")


_STEP_NAME: Final[TypeAdapter[str]] = TypeAdapter(
    models.StepName, config=parameters.DEFER_BUILD
)


@dataclass(kw_only=True, eq=False, repr=False)
class StepTriggerArguments(trigger_arguments.TriggerArguments):
    """
    The arguments of a trigger that waits for a step.
    """

    step_name: models.StepName


class StepEndedEvent(models.StrictModel):
    """
    The end of the awaited step. The execution may still be running.

    :param status: AWS's status of the step.
    """

    outcome: Literal["step_ended"] = "step_ended"
    execution_arn: models.ExecutionArn
    step_name: models.StepName
    status: models.Status


def ended_step(
    steps: Iterable[StepDescription] | None, step_name: str, execution_arn: str
) -> StepEndedEvent | None:
    """
    Return the event of the awaited step; None if the step has not ended.

    :param steps: AWS's list; None if the steps were not listed.
    """
    for step in steps or ():
        if step.name == step_name and step.status and states.has_ended(step.status):
            return StepEndedEvent(
                execution_arn=execution_arn, step_name=step_name, status=step.status
            )
    return None


def ended_row(rows: Iterable[StepRow], step_name: str) -> StepRow | None:
    """
    Return the row of the awaited step; None if the step has not ended.

    :param rows: AWS's list of the steps at the end of the wait.
    """
    for row in rows:
        if row.name == step_name and states.has_ended(row.status):
            return row
    return None


def row_of(end: StepEndedEvent, rows: Iterable[StepRow]) -> StepRow:
    """Return the row of the awaited step, which has ended."""
    row = ended_row(rows, end.step_name)
    if row:
        return row
    # The list was refused, or shows that the execution was resumed meanwhile.
    return StepRow(
        name=end.step_name,
        status=end.status,
        state=states.state_of_step(end.status).value,
    )


def end_of_step(execution_arn: str, pipeline_name: str, row: StepRow) -> ExecutionEvent:
    """
    Return the end of a step in the form of the end of an execution, to which the same
    rules apply.
    """
    return ExecutionEvent(
        outcome="ended",
        execution_arn=execution_arn,
        pipeline_name=pipeline_name,
        status=row.status,
        message=None,
        started_at=None,
        ended_at=None,
    )


def parse_step_ended(event: Mapping[str, Any] | None) -> StepEndedEvent | None:
    """
    Validate the payload of the event with which Airflow resumes a task that waits for a
    step.

    :return: None for an event with another outcome.
    :raises TriggerEventError: the outcome is that the step has ended, but the event is
        not valid.
    """
    if not isinstance(event, Mapping) or event.get("outcome") != "step_ended":
        return None
    return check_event(StepEndedEvent, event)


def check_step_name(step_name: object) -> None:
    """
    Validate the name of the step for which a task waits.

    :raises ParametersError: it is not the name of a step.
    """
    if not parameters.is_valid(_STEP_NAME, step_name):
        raise ParametersError(
            f"step_name = {texts.shorten(step_name)} is not the name of a step: give"
            " the name of a step of the pipeline, of 1 to 256 characters without"
            " control characters."
        )


def check_step_declared(
    step_name: str, declared: Sequence[DeclaredStep], kind: str | None = None
) -> None:
    """
    Check that a pipeline has a step, so that nobody waits for one that cannot come.

    :param declared: the steps of its definition; empty if they are not known.
    :param kind: the type that the step must have, such as ``Callback``; None for any.
    :raises ParametersError: it has no such step, or the step is of another type.
    """
    step = step_named(step_name, declared)
    if step and kind not in (None, step.type):
        raise ParametersError(
            f"step_name = {texts.shorten(step_name)} is a step of type {step.type}:"
            f" give the name of a step of type {kind}."
        )
    if step or not declared:
        return
    names = [entry.name for entry in all_steps(declared) if kind in (None, entry.type)]
    cure = f"it has {texts.clean_line(', '.join(names)) or 'none'}."
    similar = texts.nearest_name(step_name, names)
    if similar:
        cure = f"do you mean {similar!r}?"
    noun = f"step of type {kind}" if kind else "step"
    raise ParametersError(
        f"step_name = {texts.shorten(step_name)} is not a {noun} of the pipeline:"
        f" {cure}"
    )
