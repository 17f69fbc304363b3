"""Runs the checks: the scenarios side by side, those on which money depends first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final

from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import ENDED, CancelledError, is_denied
from sagemaker_emulator.verify.models import (
    Belief,
    NotCheckedError,
    Observed,
    Result,
    Seen,
    Verdict,
)
from sagemaker_emulator.verify.scenarios import (
    callbacks,
    events,
    jobs,
    links,
    lists,
    outcomes,
    parameters,
    permissions,
    resumes,
    selections,
    starts,
    stops,
)

# The modules with the scenarios, by the subject of a belief.
_SCENARIOS: Final = {
    "callback": callbacks,
    "event": events,
    "job": jobs,
    "link": links,
    "list": lists,
    "outcome": outcomes,
    "parameter": parameters,
    "permission": permissions,
    "resume": resumes,
    "selection": selections,
    "start": starts,
    "stop": stops,
}
Listener = Callable[[Result], object]
# Each scenario waits most of the time, and has one or two executions at a time. An
# account can run twenty.
WORKERS: Final = 10
MAX_TEXT: Final = 300


def run(
    beliefs: Sequence[Belief],
    account: Account,
    workers: int = WORKERS,
    on_result: Listener = lambda _: None,
) -> list[Result]:
    """
    Check beliefs.

    If it is interrupted, it ends the checks before it raises the interruption. Nothing
    is deleted here.

    :param on_result: called with each result, in the order in which the scenarios end.
    :return: the results in the order of the beliefs.
    """
    results: list[Result] = []
    scenarios: dict[tuple[str, str], list[Belief]] = {}
    for belief in sorted(beliefs, key=lambda belief: not belief.money):
        scenarios.setdefault((belief.subject, belief.scenario), []).append(belief)
    with ThreadPoolExecutor(workers, thread_name_prefix="polysync-verify") as pool:
        try:
            for future in as_completed(
                [pool.submit(_check, each, account) for each in scenarios.values()]
            ):
                for result in future.result():
                    results.append(result)
                    on_result(result)
        except BaseException:
            # The end of the block waits for the checks that run.
            account.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return with_unchecked(beliefs, results)


def with_unchecked(
    beliefs: Sequence[Belief], results: Sequence[Result]
) -> list[Result]:
    """
    Return the results of a run, in the order of the beliefs, with those that it has not
    checked.
    """
    made = {result.belief.id: result for result in results}
    return [
        made.get(belief.id) or Result(belief, Verdict.NOT_CHECKED, ENDED)
        for belief in beliefs
    ]


def _check(beliefs: Sequence[Belief], account: Account) -> list[Result]:
    """
    Run the scenario of some beliefs until they are observed. A problem is about those
    that are not.
    """
    begin = account.now()
    found: dict[str, Observed] = {}
    problem: Exception = LookupError("the scenario does not observe it")
    try:
        if (option := beliefs[0].option) and option not in account.options:
            raise NotCheckedError(f"{option} is not given")
        scenario = getattr(_SCENARIOS[beliefs[0].subject], beliefs[0].scenario)
        for observed in scenario(account):
            found |= observed
            if found.keys() >= {belief.name for belief in beliefs}:
                break
    except Exception as error:
        # An answer that no check expects, such as a member of another type, must not
        # end the others.
        problem = error
    seconds = max(0.0, account.now() - begin)
    return [
        _result(belief, found.get(belief.name, problem), seconds) for belief in beliefs
    ]


def _result(belief: Belief, observed: Observed | Exception, seconds: float) -> Result:
    verdict, seen = Verdict.NOT_CHECKED, Seen(str(observed))
    if isinstance(observed, Seen | str):
        seen = Seen(observed) if isinstance(observed, str) else observed
        verdict = (
            Verdict.AS_BELIEVED if seen.value == belief.expected else Verdict.DIFFERS
        )
    elif is_denied(observed):
        seen = Seen(f"no permission for {observed.operation_name}", str(observed))
    elif not isinstance(observed, NotCheckedError | CancelledError):
        verdict, seen = Verdict.ERROR, Seen(f"{type(observed).__name__}: {observed}")
    return Result(belief, verdict, _line(seen.value), _line(seen.detail), seconds)


def _line(text: str) -> str:
    """
    Return a text as one line that every terminal can show: AWS, and others, may have
    written it.
    """
    text = " ".join(text.split())
    line = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text
    )
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 3]}..."
