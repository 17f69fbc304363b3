"""
Events of EventBridge about an execution and its steps, in a queue of ``polysync events setup``.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from polysync_airflow.execution import clock
from polysync_airflow.execution.events.changes import ExecutionChange, StepChange
from polysync_airflow.states import STATUS_EXECUTING, has_ended
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.beliefs.messages.inbox import DELAY_SECONDS, Inbox, inbox
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.models import NotCheckedError, Seen, belief_maker, limit_text, told, within

# A duplicate, or the event of a step, may come a little later than the end.
_LOOKS_AFTERWARDS: Final = 5
_NO_EVENT: Final = "no event"

Change = TypeVar("Change", ExecutionChange, StepChange)


@dataclass(frozen=True)
class Events:
    """
    The events about an execution that fails, and is resumed.

    :param changes: those until the first end.
    :param delay: seconds from the end of the execution to its event; None if none has come.
    :param resume: the answer to the resume.
    :param ends: the ends, with that of the resume.
    :param problems: why other messages could not be read.
    """

    changes: Sequence[ExecutionChange]
    steps: Sequence[StepChange]
    delay: float | None
    resume: object
    ends: Sequence[ExecutionChange]
    problems: str

    @property
    def first_ends(self) -> list[ExecutionChange]:
        """The events of the first end."""
        return [change for change in self.changes if has_ended(change.status)]


def _events(account: Account) -> Events:
    box = account.once(inbox)
    name = account.create("events", definitions.resumable(account.function_arn()))
    arn = account.start(name)
    account.wait_for_end(arn)
    ended_at = clock.monotonic()
    try:
        box.look_for(lambda: bool(_ends(box, arn)))
        for _ in range(_LOOKS_AFTERWARDS if _ends(box, arn) else 0):
            account.sleep()
            box.receive()
        changes, steps = _of_type(box, arn, ExecutionChange), _of_type(box, arn, StepChange)
        delay = _delay_of_end(box, arn, ended_at)
        resume = _resume_and_look(account, box, arn) if delay is not None else None
    finally:
        box.give_back()
    return Events(changes, steps, delay, resume, _ends(box, arn), box.problems)


def _resume_and_look(account: Account, box: Inbox, arn: str) -> object:
    count = len(_ends(box, arn))
    resume = account.try_to_resume(arn)
    if not isinstance(resume, Refusal):
        account.wait_for_end(arn)
        box.look_for(lambda: len(_ends(box, arn)) > count)
    return resume


def _of_type(box: Inbox, arn: str, kind: type[Change]) -> list[Change]:
    return [each.content for each in box.about(arn) if isinstance(each.content, kind)]


def _ends(box: Inbox, arn: str) -> list[ExecutionChange]:
    return [change for change in _of_type(box, arn, ExecutionChange) if has_ended(change.status)]


def _delay_of_end(box: Inbox, arn: str, ended_at: float) -> float | None:
    ends = _ends(box, arn)
    times = [each.at for each in box.about(arn) if each.content in ends]
    return max(0.0, min(times) - ended_at) if times else None


def _begin(account: Account) -> Seen:
    changes = [each for each in account.once(_events).changes if not has_ended(each.status)]
    if not changes:
        raise NotCheckedError("no event of a begin has come: polysync events setup --running sends them")
    first = min(changes, key=lambda change: change.event_time)
    return Seen(f"{first.status}, {'with' if first.previous_status else 'without'} a status before")


def _status(account: Account) -> Seen:
    found = account.once(_events)
    return Seen(found.first_ends[0].status) if found.first_ends else Seen(_NO_EVENT, found.problems)


def _members(account: Account) -> Seen:
    found = account.once(_events)
    if not found.first_ends:
        return Seen(_NO_EVENT, found.problems)
    change = found.first_ends[0]
    members = {
        "previous status": change.previous_status,
        "display name": change.display_name,
        "start": change.started_at,
        "end": change.ended_at,
    }
    return _those_with_a_value(members)


def _those_with_a_value(members: dict[str, Any]) -> Seen:
    return Seen(", ".join(name for name, value in members.items() if value) or "none of them")


def _delay(account: Account) -> Seen:
    found = account.once(_events)
    return Seen(_NO_EVENT, found.problems) if found.delay is None else within(found.delay, DELAY_SECONDS)


def _keys(account: Account) -> Seen:
    found = account.once(_events)
    if not found.first_ends:
        return Seen(_NO_EVENT, found.problems)
    keys = {change.key for change in found.first_ends}
    return Seen("one" if len(keys) == 1 else "several", f"{len(found.first_ends)} events")


def _resumed(account: Account) -> Seen:
    found = account.once(_events)
    if found.resume is None:
        return Seen(_NO_EVENT, found.problems)
    if isinstance(found.resume, Refusal):
        raise NotCheckedError(f"the resume is {told(found.resume).value}")
    later = len(found.ends) > len(found.first_ends)
    is_new = {change.key for change in found.ends} > {change.key for change in found.first_ends}
    return Seen("another change" if is_new else "the same change" if later else _NO_EVENT)


def _end_of_step(account: Account) -> StepChange:
    ends = [
        each for each in account.once(_events).steps if each.step_name == "Third" and has_ended(each.status)
    ]
    if not ends:
        raise NotCheckedError("no event of a step has come: polysync events setup --steps sends them")
    return ends[0]


def _step(account: Account) -> Seen:
    change = _end_of_step(account)
    return Seen(f"{change.step_name}, {change.step_type}, {change.status}")


def _members_of_step(account: Account) -> Seen:
    change = _end_of_step(account)
    members = {
        "previous status": change.previous_status,
        "reason": change.reason,
        "start": change.started_at,
        "end": change.ended_at,
    }
    return _those_with_a_value(members)


_CHANGES: Final = "polysync_airflow/execution/events/changes.py"
_MEMORY: Final = "polysync_airflow/execution/events/watch.py"
_EMULATOR: Final = "emulator/sagemaker_emulator/sagemaker/status_events.py"
_PAGE: Final = "docs/reference/events.md"

_belief: Final = belief_maker("event", "--queue-url")

BELIEFS: Final = (
    _belief(
        "begin",
        "The begin of an execution makes an event without a status before.",
        f"{STATUS_EXECUTING}, without a status before",
        _begin,
        _EMULATOR,
        _PAGE,
    ),
    _belief(
        "end", "The end of an execution makes an event with its status.", "Failed", _status, _CHANGES, _PAGE
    ),
    _belief(
        "members",
        "This event has the status before, the display name, the start and the end of the execution.",
        "previous status, display name, start, end",
        _members,
        _CHANGES,
        _PAGE,
    ),
    _belief(
        "delay",
        "It comes in near real time.",
        limit_text(DELAY_SECONDS),
        _delay,
        "docs/how-to/react-to-events.md",
    ),
    _belief("duplicates", "Several events of one end are one change.", "one", _keys, _CHANGES, _MEMORY),
    _belief(
        "resumed",
        "The end after a resume is another change than the first end.",
        "another change",
        _resumed,
        _CHANGES,
        _MEMORY,
    ),
    _belief(
        "step",
        "The end of a step makes an event with its name, its type and its status.",
        "Third, Lambda, Failed",
        _step,
        _CHANGES,
        _PAGE,
    ),
    _belief(
        "step-members",
        "This event has the status before, the reason of the failure, the start and the end of the step.",
        "previous status, reason, start, end",
        _members_of_step,
        _CHANGES,
        _PAGE,
    ),
)
