"""
What the pages say that is not guaranteed: each exception of the oracle is one value,
with the line of the page that allows it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.simulation.journal import Entry, Owner
from tests.simulation.timeline import Span, Timeline

PROMISE: Final = "explanation/one-execution-per-task.md"
COSTS: Final = "how-to/limit-costs.md"


class Allowance(NamedTuple):
    """
    An exception of a statement.

    :param page: in ``docs/``.
    :param line: what the page says, word for word.
    """

    name: str
    page: str
    line: str


KEEPS_RUNNING: Final = Allowance(
    "stop_on_kill=False",
    PROMISE,
    "With `stop_on_kill=False`, nothing is stopped but what costs too much",
)
NO_ANSWER: Final = Allowance(
    "Airflow does not answer",
    PROMISE,
    "no triggerer runs, or Airflow does not answer a triggerer for a minute and a half",
)
LIMIT_ENDS: Final = Allowance(
    "the limit ends with the task", COSTS, "The limit ends with the task."
)
ALL: Final = (KEEPS_RUNNING, NO_ANSWER, LIMIT_ENDS)

# Airflow is asked again so long: ``RETRY_SECONDS`` in watch/callback.py.
_NO_ANSWER_SECONDS: Final = 60.0


def of_left(
    time: Timeline, owner: Owner, arguments: dict[str, Any], span: Span
) -> Allowance | None:
    """Return what allows that an execution runs on after its task; None for nothing."""
    if not arguments.get("stop_on_kill", True):
        return KEEPS_RUNNING
    around = Span(span.begin - 250, span.begin + _NO_ANSWER_SECONDS)
    for entry in time.actions(around):
        act = entry.details
        if entry.text != "api" or act.deployment != owner.deployment:
            continue
        if entry.at + act.value > span.begin and act.value >= _NO_ANSWER_SECONDS:
            return NO_ANSWER
    return None


def of_stop(time: Timeline, owner: Owner, entry: Entry) -> Allowance | None:
    """Return what allows a stop without a reason; None for nothing."""
    return None


def of_cost(
    time: Timeline, owner: Owner, arguments: dict[str, Any], reached: float
) -> Allowance | None:
    """Return what allows that a limit is exceeded by more; None for nothing."""
    if not arguments.get("stop_on_kill", True) and time.is_over(owner, reached):
        return LIMIT_ENDS
    return None
