"""What the attempts of a task's executions cost, as values: 1 each."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from random import Random
from typing import NamedTuple

from polysync_airflow.execution.lifecycle.instructions import (
    AddedUp,
    ExecutionRecord,
    Incarnation,
)
from polysync_airflow.execution.prices import CostLimit, Spending
from tests.unit.execution.lifecycle.aws import Aws

# The incarnation of a task instance, and one of its epochs.
Epoch = tuple[Incarnation, int]


class Attempt(NamedTuple):
    """A start of an execution, or one of its resumes."""

    arn: str
    began_at: datetime
    epoch: Epoch


class Money:
    """
    What one task instance spends.

    :param max_cost: its limit; None for no limit.
    :param is_known: whether its record was never lost or written over.
    """

    def __init__(self, random: Random, aws: Aws) -> None:
        self.max_cost = random.choice([None, None, None, 1, 2, 3])
        self.is_known = True
        self._random = random
        self._aws = aws
        self._attempts: list[Attempt] = []

    def begin(self, record: ExecutionRecord, arn: str) -> None:
        """
        Note that AWS has begun an attempt.

        Known limit: that of a request that was not sent before a clear does not count
        after it, as nobody wants it any more.
        """
        epoch = record.incarnation, record.epoch
        self._attempts.append(Attempt(arn, self._aws.now, epoch))

    def is_too_much(self, record: ExecutionRecord) -> bool:
        """
        Return whether a wait sees that what runs, and what was spent before, is too
        much. It may end before, between two lists of its steps.
        """
        if self.max_cost is None or self._random.random() < 0.5:
            return False
        return self._amount(record) >= self.max_cost

    def add_up(self, record: ExecutionRecord, epoch: int) -> AddedUp:
        """Return what a try adds up, and check that nothing is missing or twice in it."""
        # No attempt begins at the time that is stored.
        self._aws.now += timedelta(seconds=1)
        at = self._aws.now
        self._aws.now += timedelta(seconds=1)
        amount = 0.0
        if record.epoch == epoch:
            amount = self._amount(record)
        of_try = record.incarnation, epoch
        of_epoch = [each for each in self._attempts if each.epoch == of_try]
        assert amount <= len(self._attempts), "an attempt is counted twice"
        if self.is_known:
            assert amount >= len(of_epoch), "an attempt is not counted"
        return AddedUp(
            Spending(
                at=at,
                amount=amount,
                max_cost=self.max_cost or 0,
                currency="USD",
                prices_date=date(2026, 1, 1),
            )
        )

    def _amount(self, record: ExecutionRecord) -> float:
        limit = CostLimit(
            max_cost=self.max_cost or 0,
            currency="USD",
            prices_date=date(2026, 1, 1),
            prices={},
        )
        limit = record.limit_of_attempt(limit)
        own = [each for each in self._attempts if each.arn == record.arn]
        counted = [
            each for each in own if limit.since is None or each.began_at >= limit.since
        ]
        return limit.spent + len(counted)
