"""The test cases in which no triggerer has a free slot for a deferred task."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import FAILED_AND_STOPPED, LONG, ONLY_LOCAL, Case
from tests.chaos.scenarios import full_triggerer
from tests.chaos.scenarios.shared import Scenario


def _case(number: str, title: str, scenario: Scenario) -> Case:
    return Case(
        number,
        f"the only triggerer has no free slot, {title}",
        scenario,
        FAILED_AND_STOPPED,
        LONG,
        exclusive=True,
        outage="63",
        short=(),
        executors=ONLY_LOCAL,
    )


FULL_TRIGGERER_CASES: Final = (
    _case("63a", "the user marks the task as failed", full_triggerer.marked),
    _case("63b", "timeout passes", full_triggerer.out_of_time),
    _case("63c", "max_cost is spent, then timeout passes", full_triggerer.out_of_time),
)
