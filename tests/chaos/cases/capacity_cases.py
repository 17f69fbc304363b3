"""The test cases in which AWS has no capacity."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import ONLY_LOCAL, SUCCESS_AFTER_RETRY, Case, Expected
from tests.chaos.scenarios import capacity
from tests.chaos.scenarios.shared import Scenario

SUCCESS: Final = Expected()
CLEARED: Final = Expected(tries=2)
FAILED: Final = Expected((), "failed")


def _case(number: str, title: str, scenario: Scenario, expected: Expected) -> Case:
    return Case(
        number,
        title,
        scenario,
        expected,
        seconds=3,
        short=ONLY_LOCAL if number in ("61a", "61e") else (),
        executors=ONLY_LOCAL,
    )


CAPACITY_CASES: Final = (
    _case(
        "61a",
        "a quota refuses the start three times, task deferred",
        capacity.quota_is_used_up,
        SUCCESS,
    ),
    _case(
        "61b",
        "a quota refuses the start three times, synchronous mode",
        capacity.quota_is_used_up,
        SUCCESS,
    ),
    _case("61c", "CapacityError once, task deferred", capacity.no_instances, SUCCESS),
    _case(
        "61d", "CapacityError once, synchronous mode", capacity.no_instances, SUCCESS
    ),
    _case(
        "61e",
        "kill -9 of the worker process that waits for capacity",
        capacity.worker_killed,
        SUCCESS_AFTER_RETRY,
    ),
    _case(
        "61f",
        "user clears the deferred task in the pause",
        capacity.user_clears,
        CLEARED,
    ),
    _case(
        "61g",
        "user clears the running task in the pause",
        capacity.user_clears,
        CLEARED,
    ),
    _case(
        "61h",
        "user marks the deferred task failed in the pause",
        capacity.user_marks,
        FAILED,
    ),
    _case(
        "61i",
        "user marks the running task failed in the pause",
        capacity.user_marks,
        FAILED,
    ),
    _case(
        "61j",
        "timeout in the pause, task deferred",
        capacity.timeout_passes,
        FAILED,
    ),
    _case(
        "61k",
        "timeout in the pause, synchronous mode",
        capacity.timeout_passes,
        FAILED,
    ),
)
