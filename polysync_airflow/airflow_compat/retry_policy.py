"""
What ``airflow.sdk`` has from Airflow 3.3 on: the decision whether a failed task is retried.

Before, the operators themselves ask their policy, and only for whether the task is retried: Airflow takes no
delay from a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any


class RetryAction(Enum):
    """What Airflow does after a failed try."""

    RETRY = "retry"
    FAIL = "fail"
    DEFAULT = "default"


@dataclass(frozen=True)
class RetryDecision:
    """
    The decision of a policy.

    :param retry_delay: the delay of the next try; None for the task's own.
    :param reason: why, for the log.
    """

    action: RetryAction = RetryAction.DEFAULT
    retry_delay: timedelta | None = None
    reason: str | None = None

    @classmethod
    def fail(cls, reason: str | None = None) -> RetryDecision:
        """Return the decision for no further try."""
        return cls(RetryAction.FAIL, reason=reason)

    @classmethod
    def retry(cls, delay: timedelta | None = None, reason: str | None = None) -> RetryDecision:
        """Return the decision for a further try after a delay."""
        return cls(RetryAction.RETRY, delay, reason)

    @classmethod
    def default(cls) -> RetryDecision:
        """Return the decision for what the task's own settings say."""
        return cls()


class RetryPolicy(ABC):
    """Decides after a failed try whether the task is retried."""

    @abstractmethod
    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:
        """
        Return the decision after a failed try.

        :param try_number: number of the failed try, from 1.
        """
