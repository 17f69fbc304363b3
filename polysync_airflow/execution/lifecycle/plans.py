"""
What a try knows of what comes after it, when it pushes its XCom ``run``.

``execution/what_next.py`` reads it, with what Airflow says of the task then.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from polysync_airflow.execution import models, texts

# What a session of a task does about an execution: it starts a new one, resumes the
# failed steps of the last one if that fails while it is being stopped, and else starts
# a new one, resumes them in any case, goes on with the last one, or looks for one.
Does = Literal["start", "start_or_resume", "resume", "continue", "search"]
_Count = Annotated[int, Field(ge=0, le=models.MAX_STEP_ROWS)]
_Number = Annotated[int, Field(ge=0, le=models.MAX_INTEGER)]
# The time after a longer delay is not told: it may be after the last year.
MAX_PLANNED: Final = timedelta(days=3650)


class NextRun(models.FrozenModel):
    """
    How Airflow goes on with a task that has failed.

    :param does: what the task does then; None if that is not known.
    :param at: when; None if that is not known.
    :param is_earliest: whether Airflow may wait longer, since the delay grows.
    :param is_same_try: whether the try goes on, which Airflow has rescheduled.
    """

    does: Does | None = None
    at: models.UtcTime | None = None
    is_earliest: bool = False
    is_same_try: bool = False


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
        seconds = texts.format_seconds(self.delay.total_seconds())
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


class Plan(models.FrozenModel):
    """
    What a try knows: the member ``next`` of the XCom ``run``.

    :param try_number: the try that has pushed it.
    :param max_tries: that of Airflow, which a clear changes.
    :param until: when the task gives up, while it waits.
    :param retry: how Airflow goes on after the failure of the try; None if it does not,
        or if the try has not failed.
    :param clear: what a clear does after a failure; None if it depends.
    :param resumable: whether a person may resume the failed execution.
    :param repeats: how many steps a resume repeats; None if that is not known.
    :param steps: how many steps the execution has, without those that it leaves out.
    """

    try_number: _Number
    max_tries: _Number
    until: models.UtcTime | None = None
    retry: NextRun | None = None
    clear: Does | None = None
    resumable: bool = False
    repeats: _Count | None = None
    steps: _Count | None = None

    @property
    def may_resume(self) -> bool:
        """Whether a retry, a clear or a person may resume the failed steps."""
        return self.resumable or (
            self.retry is not None and self.retry.does == "resume"
        )
