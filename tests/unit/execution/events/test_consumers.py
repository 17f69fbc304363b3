"""
Whether others receive the messages of a queue: those that were given back, and did not
return.
"""

from __future__ import annotations

import pytest

from polysync_airflow.execution.events import (
    CHECK_EVERY_SECONDS,
    MIN_RECEIVES,
    RETURN_SECONDS,
    ConsumerCheck,
)

BEGUN = 1000.0


def check(*given_back: str) -> ConsumerCheck:
    """Return a check that has given messages back."""
    made = ConsumerCheck()
    assert made.is_due(BEGUN)
    made.begin(given_back, BEGUN)
    return made


@pytest.mark.parametrize(
    ("received", "has_room", "seconds", "missing"),
    [
        ([[]] * MIN_RECEIVES, True, RETURN_SECONDS, {"a", "b"}),
        ([["a"], *[[]] * (MIN_RECEIVES - 1)], True, RETURN_SECONDS, {"b"}),
        ([["a", "c"], ["b"], *[[]] * MIN_RECEIVES], True, RETURN_SECONDS, set()),
        # A killed process may have received it, and keeps it until its visibility
        # timeout has passed.
        ([[]] * 10, True, RETURN_SECONDS - 1, set()),
        # While there are more messages than a receive brings, it may be one of those
        # that follow.
        ([["c"]] * 100, False, RETURN_SECONDS * 100, set()),
        ([[]] * (MIN_RECEIVES - 1), True, RETURN_SECONDS, set()),
    ],
)
def test_message_is_missing_only_after_time_and_room_to_return(
    received: list[list[str]], has_room: bool, seconds: float, missing: set[str]
) -> None:
    """
    Only what has not returned although it had the time, and receives had the room.
    """
    made = check("a", "b")
    now = BEGUN + seconds

    found = [made.missing(ids, has_room=has_room, now=now) for ids in received]

    assert found == [*[set()] * (len(received) - 1), missing]


def test_consumers_are_checked_once_a_day() -> None:
    """
    Before the first one, nothing is missing; the next one is a day later, also for what
    joined meanwhile.
    """
    assert ConsumerCheck().missing(["a"], has_room=True, now=BEGUN) == set()
    made = check("a")

    assert not made.is_due(BEGUN + CHECK_EVERY_SECONDS - 1)
    assert made.is_due(BEGUN + CHECK_EVERY_SECONDS)
    made.begin(["b"], BEGUN + CHECK_EVERY_SECONDS)
    end = BEGUN + CHECK_EVERY_SECONDS + RETURN_SECONDS
    missing = [
        made.missing([], has_room=True, now=end) for _ in range(MIN_RECEIVES + 1)
    ]
    assert missing == [set(), set(), {"b"}, set()]
