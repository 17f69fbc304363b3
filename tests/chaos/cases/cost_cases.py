"""The test cases in which a task spends what it may."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import FAILED_AND_STOPPED, LONG, ONLY_LOCAL, Case
from tests.chaos.scenarios import costs

COST_CASES: Final = (
    Case(
        "62a",
        "max_cost is spent while both triggerers are dead for 60 s",
        costs.limit_reached_without_triggerers,
        FAILED_AND_STOPPED,
        LONG,
        exclusive=True,
        outage="62a",
        short=(),
        executors=ONLY_LOCAL,
    ),
    Case(
        "62b",
        "max_cost is spent, task deferred",
        costs.limit_reached,
        FAILED_AND_STOPPED,
        LONG,
        short=ONLY_LOCAL,
        executors=ONLY_LOCAL,
    ),
    Case(
        "62c",
        "max_cost is spent, synchronous mode",
        costs.limit_reached,
        FAILED_AND_STOPPED,
        LONG,
        short=(),
        executors=ONLY_LOCAL,
    ),
)
