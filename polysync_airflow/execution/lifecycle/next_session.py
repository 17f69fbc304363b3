"""How Airflow goes on with a task that has failed."""

from __future__ import annotations

from typing import NamedTuple


class NextSession(NamedTuple):
    """
    The next process that runs a task after a failure.

    :param when: when Airflow starts it, such as ``in 5 min``.
    :param is_same_try: whether it goes on with the try that has failed, because Airflow
        3.4 has rescheduled the task. Otherwise it is a retry.
    """

    when: str
    is_same_try: bool = False

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
