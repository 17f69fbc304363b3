"""
Whether what a person is told of comes next: the ends of the messages of failed tasks,
and what the XCom ``run`` says, compared with what AWS and Airflow see then.

Nothing is compared if a person does something else meanwhile, or if something breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.simulation.airflow.database import ENDED
from tests.simulation.journal import Entry, Owner
from tests.simulation.timeline import Span, Timeline, since_start

_START: Final = "StartPipelineExecution"
_RESUME: Final = "RetryPipelineExecution"


class _Promise(NamedTuple):
    """
    What a text says of comes next.

    :param after_clear: whether it says so of a clear, and not of the retry.
    :param request: what AWS is sent then.
    """

    name: str
    pattern: re.Pattern[str]
    after_clear: bool
    request: str


_PROMISES: Final = (
    _Promise("the retry starts", re.compile(r"The retry starts a new"), False, _START),
    _Promise("the retry resumes", re.compile(r"The retry resumes the"), False, _RESUME),
    _Promise(
        "a clear starts",
        re.compile(r"clear the task\.\s+That starts a new"),
        True,
        _START,
    ),
    _Promise(
        "a clear resumes",
        re.compile(r"clear the task\.\s+That .*repeats only"),
        True,
        _RESUME,
    ),
    # What tab, page and commands say.
    _Promise(
        "next: the retry starts",
        re.compile(r"try \d+ of \d+ starts a new", re.I),
        False,
        _START,
    ),
    _Promise(
        "next: the retry resumes",
        re.compile(r"try \d+ of \d+ resumes the failed steps(?! if)", re.I),
        False,
        _RESUME,
    ),
    _Promise(
        "next: a clear starts",
        re.compile(r"(and a clear|A clear of the task) starts"),
        True,
        _START,
    ),
    _Promise(
        "next: a clear resumes",
        re.compile(r"and so does a clear|A clear of the task resumes.*steps(?! if)"),
        True,
        _RESUME,
    ),
)
_RETRIES: Final = re.compile(r"Next: Airflow retries the task")
_NO_RETRY: Final = re.compile(r"Next: .*clear the task")


class Comparison(NamedTuple):
    """
    A text, and what then happened.

    :param text: which one.
    :param what: the difference, for people.
    """

    text: str
    is_true: bool
    what: str


def compared(time: Timeline) -> Iterator[Comparison]:
    """Yield each text that can be compared with what happened then."""
    for number, entry in enumerate(time.entries):
        if entry.kind not in ("told", "next") or entry.owner is None:
            continue
        # A process goes on for a while beside the one that tests its task.
        if time.tests(entry.owner, Span(0.0, entry.at)):
            continue
        later = time.entries[number + 1 :]
        for promise in _PROMISES:
            if promise.pattern.search(entry.text):
                yield from _compare(time, promise, entry, entry.owner, later)
        yield from _retries(time, entry, entry.owner, later)


def _compare(
    time: Timeline, promise: _Promise, told: Entry, owner: Owner, later: list[Entry]
) -> Iterator[Comparison]:
    begin = told.at
    if promise.after_clear:
        cleared = _next_state(later, owner, "None")
        if cleared is None or _is_ended_between(time, owner, told.at, cleared.at):
            return
        begin = cleared.at
    requests = [
        each
        for each in later
        if each.at >= begin
        and (each.kind, each.owner) == ("aws", owner)
        and each.text in (_START, _RESUME)
    ]
    if not requests or not requests[0].details.is_accepted:
        return
    request = requests[0]
    span = Span(told.at, request.at)
    if time.is_hindered(owner.deployment, span):
        return
    if len(time.actions(span)) > int(promise.after_clear):
        return
    yield Comparison(
        promise.name,
        request.text == promise.request,
        f"{owner} was told at {since_start(told.at):.2f} that {promise.name}:"
        f" {request.text} at {since_start(request.at):.2f}",
    )


def _next_state(later: list[Entry], owner: Owner, pattern: str) -> Entry | None:
    for entry in later:
        is_own = (entry.kind, entry.owner) == ("state", owner)
        if is_own and re.fullmatch(pattern, entry.text):
            return entry
    return None


def _is_ended_between(time: Timeline, owner: Owner, begin: float, end: float) -> bool:
    """Return whether another try has ended meanwhile, which has told something else."""
    return any(
        begin + 1 < entry.at < end and entry.text in (*ENDED, "running")
        for entry in time.states(owner)
    )


def _retries(
    time: Timeline, told: Entry, owner: Owner, later: list[Entry]
) -> Iterator[Comparison]:
    """Compare whether Airflow retries the task, as a text says or does not say."""
    says_so = bool(_RETRIES.search(told.text))
    if not says_so and not _NO_RETRY.search(told.text):
        return
    state = _next_state(later, owner, ".*")
    # ``airflow tasks test`` of a task that has never run gives it no number of a try.
    if state is None or not state.details:
        return
    # A process may not know yet that its task was cleared.
    is_replaced = time.state_at(owner, told.at) != "running"
    if is_replaced or time.actions(Span(told.at, state.at)):
        return
    text = "no retry"
    if says_so:
        text = "Airflow retries"
    yield Comparison(
        text,
        says_so == (state.text == "up_for_retry"),
        f"{owner} was told at {since_start(told.at):.2f}: {text}; the task is"
        f" {state.text}",
    )
