"""
The decision core of a search: what to do after each look at AWS's list.

Rules:

1. A search that has found an execution ends.
2. After a permanent error it ends. After any other error (throttling, network, expired credentials) it looks
   again; the error is logged as that of a poll (``waiter.py``).
3. If the window has closed, and AWS's list had time to show its last execution, the search ends without one.
4. The deadline ends the search, but only after one last look.
5. What was listed once is not listed again, except for the time by which AWS's list may lag behind.

Everything here is pure: the time is an argument. The sensor on a worker and the trigger
(``triggers/sensing``) only do what ``Lookout.decide`` returns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.search.criteria import (
    LIST_LAG_SECONDS,
    TooManyMatchesError,
    describe_search,
)
from polysync_airflow.execution.search.models import ListedExecution, Search, SearchEvent
from polysync_airflow.execution.waiter import NO_FAILURES, Failures, LogLine, error_fields


@dataclass(frozen=True, slots=True)
class Look:
    """Instruction: write the log lines, look again, and pass the result to ``lookout.decide``."""

    lookout: Lookout
    log_lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Lookout:
    """
    The state of a search.

    :param deadline: when it ends at the latest, in seconds since the epoch.
    :param listed_until: until when AWS has listed everything, in seconds since the epoch; None for nothing.
    :param shared: the looks are shared with other searches.
    :param failures: the looks that have failed since the last successful one.
    """

    search: Search
    deadline: float
    listed_until: float | None = None
    shared: bool = False
    failures: Failures = NO_FAILURES

    @property
    def list_after(self) -> datetime:
        """From which creation time on AWS must list executions."""
        start = self.search.created_after
        if self.listed_until is not None:
            start = max(start, datetime.fromtimestamp(self.listed_until - LIST_LAG_SECONDS, UTC))
        # AWS does not say whether it lists an execution of exactly this time.
        return start - timedelta(seconds=1)

    @property
    def ends_at(self) -> float:
        """When the last look is due, in seconds since the epoch."""
        end = self.search.created_before
        return min(self.deadline, end.timestamp() + LIST_LAG_SECONDS) if end else self.deadline

    def decide(
        self, result: ListedExecution | PolysyncError | None, listed_at: float, now: float
    ) -> Look | SearchEvent:
        """
        Return the instruction after a look.

        :param result: the execution that was found; None if there is none; or the error.
        :param listed_at: when the list was requested, in seconds since the epoch.
        """
        if isinstance(result, ListedExecution):
            return SearchEvent(
                outcome="found", began_at=self.search.began_at, execution_arn=result.execution_arn
            )
        if isinstance(result, PolysyncError):
            return self._after_error(result, now)
        if self._has_closed(listed_at):
            return self._end("no_match", "The window has closed, and no execution in it matches.")
        if now >= self.deadline:
            return self._end("timed_out", f"No execution was found within {self._limit}.")
        lines = (LogLine(logging.INFO, f"The executions of {self.search.name} can be listed again"),)
        updated = replace(self, listed_until=listed_at, failures=NO_FAILURES)
        return Look(updated, lines if self.failures.logged else ())

    def _after_error(self, error: PolysyncError, now: float) -> Look | SearchEvent:
        if isinstance(error, TooManyMatchesError):
            return self._end("too_many", str(error))
        if error.permanent:
            return self._end("refused", str(error), error)
        if now >= self.deadline:
            text = f"No execution was found within {self._limit}; the last look failed: {error}"
            return self._end("timed_out", text, error)
        what = "The executions cannot be listed"
        failures, lines = self.failures.add(error, now, shared=self.shared, what=what)
        return Look(replace(self, failures=failures), lines)

    def _has_closed(self, listed_at: float) -> bool:
        end = self.search.created_before
        return end is not None and listed_at >= end.timestamp() + LIST_LAG_SECONDS

    @property
    def _limit(self) -> str:
        return format_seconds(self.deadline - self.search.began_at.timestamp())

    def _end(
        self,
        outcome: Literal["no_match", "timed_out", "refused", "too_many"],
        message: str,
        error: PolysyncError | None = None,
    ) -> SearchEvent:
        return SearchEvent(
            outcome=outcome,
            began_at=self.search.began_at,
            message=f"{message} Looked for: {describe_search(self.search)}.",
            **error_fields(error),
        )
