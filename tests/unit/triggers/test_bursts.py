"""
What goes out to Airflow together, which XComs are stored, and which steps are listed
together.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.triggers.bursts import (
    MAX_CREDIT,
    MIN_CREDIT,
    PAUSE_SECONDS,
    Bursts,
)
from polysync_airflow.triggers.spending import StepChanges
from polysync_airflow.triggers.step_lists import BURST_SECONDS, MAX_BURST, ShownLists

PER_SECOND = 4.0
CHANGED = StepChanges([], (LogLine(logging.INFO, "Step Train started"),))
FAILED = StepChanges([], (LogLine(logging.ERROR, "Step Train failed"),))


@dataclass(eq=False)
class Receiver:
    """A wait."""

    stored_at: float = -math.inf
    is_owed: bool = False
    ended: bool = False
    received: list[Any] = field(default_factory=list)

    def send(self, result: Any) -> None:
        """Note a result."""
        self.received.append(result)

    @property
    def stored(self) -> list[bool]:
        """Which of the results have their XCom stored."""
        return [result.is_stored for result in self.received]


def test_wait_alone_is_never_delayed_and_others_go_together() -> None:
    """Passes of Airflow's supervisor follow time, not waits."""
    bursts = Bursts()
    waits = [Receiver() for _ in range(3)]
    bursts.add(waits[0], CHANGED)
    assert bursts.send_due(100.0) is None
    assert len(waits[0].received) == 1

    bursts.add(waits[1], CHANGED)
    bursts.add(waits[2], CHANGED)
    assert bursts.send_due(100.25) == PAUSE_SECONDS - 0.25
    assert waits[1].received == waits[2].received == []
    assert bursts.send_due(100.0 + PAUSE_SECONDS) is None
    assert [len(wait.received) for wait in waits] == [1, 1, 1]

    bursts.add(waits[0], CHANGED)
    bursts.send_due(200.0)
    assert len(waits[0].received) == 2


def test_failed_steps_are_stored_without_credit_and_first_ones_before_others() -> None:
    """What a person waits for is in the tab at once, or as soon as possible."""
    bursts = Bursts(credit=0.0)
    new, known, failing = Receiver(), Receiver(stored_at=0.0), Receiver(stored_at=0.0)
    for wait, changes in ((new, CHANGED), (known, CHANGED), (failing, FAILED)):
        bursts.add(wait, changes)

    bursts.send_all(100.0)

    assert (new.stored, known.stored, failing.stored) == ([False], [False], [True])
    assert (new.is_owed, known.is_owed, failing.is_owed) == (True, True, False)
    assert known.received[0].log_lines == CHANGED.log_lines

    # The failure has taken the credit of one more.
    for wait in (known, new):
        bursts.add(wait, CHANGED)
    bursts.send_all(102.5)

    assert (new.stored, known.stored) == ([False, True], [False, False])


def test_credit_that_is_used_up_lets_several_waits_come_first_together() -> None:
    """Their XComs and lines share passes."""
    bursts = Bursts(credit=1.0)
    assert bursts.has_credit(100.0)
    bursts.add(Receiver(), CHANGED)
    bursts.send_all(100.0)

    answers = [bursts.has_credit(100.0 + second) for second in range(int(MIN_CREDIT))]

    assert not any(answers)
    assert bursts.has_credit(100.0 + MIN_CREDIT)


def test_credit_goes_to_the_oldest_xcoms_and_grows_with_time() -> None:
    """No wait is left out twice while another has two."""
    bursts = Bursts(credit=MAX_CREDIT / 2 + 1)
    waits = [Receiver(stored_at=float(number)) for number in (3, 1, 2)]
    for now in (100.0, 101.0, 102.0):
        for wait in waits:
            bursts.add(wait, CHANGED)
        bursts.send_all(now)

    assert [wait.stored for wait in waits] == [
        [False, False, True],
        [True, False, False],
        [False, True, False],
    ]


def test_results_of_a_cancelled_wait_are_taken_back() -> None:
    """Its trigger writes their lines, and those of the others stay."""
    bursts = Bursts()
    cancelled, other = Receiver(), Receiver()
    for wait in (cancelled, other, cancelled):
        bursts.add(wait, CHANGED)

    assert bursts.withdraw(cancelled) == [CHANGED, CHANGED]
    bursts.send_all(100.0)

    assert (cancelled.received, len(other.received)) == ([], 1)


def begun(lists: ShownLists[Receiver], begin: float, end: float) -> list[float]:
    """Return when lists begin, by a clock with steps of 10 ms."""
    times = []
    for step in range(int((end - begin) * 100)):
        now = begin + step / 100
        seconds = lists.seconds_until_next(now, True)
        if seconds is not None and seconds <= 0:
            lists.begin(now)
            times.append(now - begin)
    return times


def test_new_waits_are_listed_at_once_and_others_together() -> None:
    """A first step is not behind a hundred others, which share their log reads."""
    lists: ShownLists[Receiver] = ShownLists(PER_SECOND)
    lists.seconds_until_next(0.0, True)
    for _ in range(100):
        lists.add(Receiver(), is_first=False)
    times = begun(lists, 100.0, 108.0)
    # The whole allowance at once, then nothing until the next burst.
    assert MAX_BURST <= len(times) <= MAX_BURST + 8
    assert times[-1] < 2

    new = Receiver()
    lists.add(new, is_first=True)
    assert (lists.seconds_until_next(108.0, True) or 0.0) <= 0
    assert lists.begin(108.0) is new
    later = begun(lists, 100.0 + BURST_SECONDS, 120.0)
    assert len(later) >= BURST_SECONDS * PER_SECOND / 2


def test_new_wait_comes_first_only_if_its_xcom_may_be_stored() -> None:
    """Otherwise it is listed in its turn; an ended wait is not listed at all."""
    lists: ShownLists[Receiver] = ShownLists(PER_SECOND)
    known, new, other = Receiver(), Receiver(), Receiver()
    lists.add(Receiver(ended=True), is_first=True)
    lists.add(known, is_first=False)
    lists.add(new, is_first=True)
    lists.add(other, is_first=True)

    assert (lists.seconds_until_next(0.0, True) or 0.0) <= 0
    assert lists.begin(0.0) is new
    assert (lists.seconds_until_next(1.0, False) or 0.0) <= 0
    assert lists.begin(1.0) is known
    assert (lists.seconds_until_next(1.5, False) or 0.0) <= 0
    assert lists.begin(1.5) is other
    assert lists.seconds_until_next(2.0, True) is None
