"""
Events of EventBridge about an execution, in a queue that ``polysync events setup`` has described.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from polysync_airflow.events.queue import EventQueue, Received
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.events.changes import ExecutionChange
from polysync_airflow.states import has_ended
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.models import Belief, Seen, limit_text, within

DELAY_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 5
# So that a message is not received twice, while the check looks.
_HIDDEN_SECONDS: Final = 180
# A duplicate may come a little later.
_LOOKS_AFTERWARDS: Final = 5
_MAX_MESSAGES: Final = 500
_NO_EVENT: Final = "no event"


@dataclass(frozen=True)
class Events:
    """
    The events about an execution.

    :param delay: seconds from the end of the execution to its event; None if none has come.
    :param problems: why other messages could not be read.
    """

    ends: Sequence[ExecutionChange]
    delay: float | None
    problems: Sequence[str]


def _events(account: Account) -> Events:
    name = account.create("events", definitions.failing())
    arn = account.start(name)
    account.wait_for_end(arn)
    # The runner has asked for the option.
    queue = EventQueue(account.hook.polysync_conn_id, account.region, account.options.queue_url or "")
    return _Reader(account, queue, arn).read()


class _Reader:
    """Reads a queue until the end of an execution is in it. Messages about other runs are given back."""

    def __init__(self, account: Account, queue: EventQueue, arn: str) -> None:
        self._account, self._queue, self._arn = account, queue, arn
        self._others: list[Received] = []
        self._ends: list[ExecutionChange] = []

    def read(self) -> Events:
        begin = clock.monotonic()
        delay = None
        try:
            while not self._ends and clock.monotonic() < begin + 2 * DELAY_SECONDS:
                self._receive(_WAIT_SECONDS)
                delay = clock.monotonic() - begin if self._ends else None
                self._account.sleep(0 if self._ends else 0.5)
            for _ in range(_LOOKS_AFTERWARDS if self._ends else 0):
                self._account.sleep()
                self._receive(0)
        finally:
            self._queue.release([message.handle for message in self._others])
        problems = [message.problem for message in self._others if message.problem]
        return Events(self._ends, delay, problems)

    def _receive(self, wait_seconds: int) -> None:
        if len(self._others) > _MAX_MESSAGES:
            raise PolysyncError(
                f"The queue has more than {_MAX_MESSAGES} messages about others: give an emptier one."
            )
        received = self._queue.receive(wait_seconds=wait_seconds, visibility_seconds=_HIDDEN_SECONDS)
        own = [each for each in received if self._is_of_this_run(each)]
        self._others += [each for each in received if each not in own]
        changes = [each.change for each in own if isinstance(each.change, ExecutionChange)]
        self._ends += [each for each in changes if each.execution_arn == self._arn and has_ended(each.status)]
        if own:
            self._queue.delete([message.handle for message in own])

    def _is_of_this_run(self, message: Received) -> bool:
        name = getattr(message.change, "pipeline_name", "")
        return bool(name.startswith(self._account.name_of("")))


def _first(account: Account) -> tuple[ExecutionChange | None, str]:
    found = account.once(_events)
    return (found.ends[0] if found.ends else None), "; ".join(found.problems[:3])


def _status(account: Account) -> Seen:
    change, problems = _first(account)
    return Seen(change.status) if change else Seen(_NO_EVENT, problems)


def _members(account: Account) -> Seen:
    change, problems = _first(account)
    if change is None:
        return Seen(_NO_EVENT, problems)
    members = {
        "previous status": change.previous_status,
        "display name": change.display_name,
        "start": change.started_at,
        "end": change.ended_at,
    }
    return Seen(", ".join(name for name, value in members.items() if value) or "none of them")


def _delay(account: Account) -> Seen:
    delay = account.once(_events).delay
    if delay is None:
        return Seen(_NO_EVENT, _first(account)[1])
    return within(delay, DELAY_SECONDS)


def _keys(account: Account) -> Seen:
    ends = account.once(_events).ends
    if not ends:
        return Seen(_NO_EVENT, _first(account)[1])
    return Seen("one" if len({change.key for change in ends}) == 1 else "several", f"{len(ends)} events")


def _belief(name: str, sentence: str, expected: str, check: Any, *relied_on_by: str) -> Belief:
    return Belief(
        id=f"event.{name}",
        sentence=sentence,
        expected=expected,
        check=check,
        relied_on_by=relied_on_by,
        option="--queue-url",
    )


_CHANGES: Final = "polysync_airflow/execution/events/changes.py"

BELIEFS: Final = (
    _belief(
        "end",
        "The end of an execution makes an event with its status.",
        "Failed",
        _status,
        _CHANGES,
        "docs/reference/events.md",
    ),
    _belief(
        "members",
        "This event has the status before, the display name, the start and the end of the execution.",
        "previous status, display name, start, end",
        _members,
        _CHANGES,
        "docs/reference/events.md",
    ),
    _belief(
        "delay",
        "It comes in near real time.",
        limit_text(DELAY_SECONDS),
        _delay,
        "docs/how-to/react-to-events.md",
    ),
    _belief(
        "duplicates",
        "Several events of one end are one change.",
        "one",
        _keys,
        _CHANGES,
        "polysync_airflow/execution/events/memory.py",
    ),
)
