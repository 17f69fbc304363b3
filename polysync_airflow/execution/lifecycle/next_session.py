"""How Airflow goes on with a task that has failed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from polysync_airflow.execution.lifecycle.plans import Does, NextRun
from polysync_airflow.execution.texts import format_seconds

# The time after a longer delay is not told: it may be after the last year.
MAX_PLANNED: Final = timedelta(days=3650)


class NextSession(NamedTuple):
    """
    The next process that runs a task after a failure.

    :param delay: after which Airflow starts it.
    :param is_earliest: whether Airflow may wait longer, since the delay grows.
    :param is_same_try: whether it goes on with the try that has failed, because Airflow
        3.4 has rescheduled the task. Otherwise it is a retry.
    """

    delay: timedelta
    is_earliest: bool = False
    is_same_try: bool = False

    @property
    def when(self) -> str:
        """When Airflow starts it, such as ``in 5 min``."""
        seconds = format_seconds(self.delay.total_seconds())
        return f"in at least {seconds}" if self.is_earliest else f"in {seconds}"

    @property
    def text(self) -> str:
        """What Airflow does, as a sentence."""
        if self.is_same_try:
            return f"Airflow reschedules the task {self.when}, without using a retry."
        return f"Airflow retries the task {self.when}."

    @property
    def subject(self) -> str:
        """Who acts then, for the next sentence."""
        if self.is_same_try:
            return "The task then"
        return "The retry"

    def planned(self, does: Does | None, now: datetime) -> NextRun:
        """
        Return the same for the XCom ``run``.

        :param does: what the task does then; None if that is not known.
        """
        at: datetime | None = None
        if self.delay < MAX_PLANNED:
            at = now + self.delay
        return NextRun(
            does=does,
            at=at,
            is_earliest=self.is_earliest,
            is_same_try=self.is_same_try,
        )
