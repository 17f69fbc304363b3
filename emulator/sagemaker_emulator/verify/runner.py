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
    Observation,
    Observed,
    Result,
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
    refusals,
    resumes,
    selections,
    starts,
    stops,
)

# The modules with the scenarios, by the subject of a belief.
_SCENARIOS: Final = {
    "callback": callbacks,
    "definition": refusals,
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

    If it is interrupted, it ends the checks before it raises the interruption. It
    deletes nothing.

    :param on_result: called with each result, in the order in which the scenarios end.
    :return: the results in the order of the beliefs.
    """
    results: list[Result] = []
    scenarios: dict[tuple[str, str], list[Belief]] = {}
    for belief in sorted(beliefs, key=lambda belief: not belief.money):
        scenarios.setdefault((belief.subject, belief.scenario), []).append(belief)
    with ThreadPoolExecutor(workers, thread_name_prefix="polysync-verify") as pool:
        try:
            futures = [
                pool.submit(_check, of_scenario, account)
                for of_scenario in scenarios.values()
            ]
            for future in as_completed(futures):
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
    Return a result for each belief, in their order. Those that the run has not reached
    are not checked.
    """
    by_id = {result.belief.id: result for result in results}
    return [
        by_id.get(belief.id, Result(belief, Verdict.NOT_CHECKED, ENDED))
        for belief in beliefs
    ]


def _check(beliefs: Sequence[Belief], account: Account) -> list[Result]:
    """
    Run the scenario of some beliefs until they are observed. If it raises an error, the
    error is the result of the others.
    """
    begin = account.now()
    observations: dict[str, Observed] = {}
    problem: Exception = LookupError("the scenario does not observe it")
    names = {belief.name for belief in beliefs}
    subject = beliefs[0].subject
    option = beliefs[0].option
    try:
        if option and option not in account.options:
            raise NotCheckedError(f"{option} is not given")
        scenario = getattr(_SCENARIOS[subject], beliefs[0].scenario)
        for observed in scenario(account):
            observations |= observed
            if observations.keys() >= names:
                break
    except Exception as error:
        # An answer that no check expects, such as a member of another type, must not
        # end the others.
        problem = error
    seconds = max(0.0, account.now() - begin)
    return [
        _result(belief, observations.get(belief.name, problem), seconds)
        for belief in beliefs
    ]


def _result(belief: Belief, observed: Observed | Exception, seconds: float) -> Result:
    """Return the result of a belief: what was observed, or why it was not."""
    detail = ""
    if isinstance(observed, Observation | str):
        seen = str(observed)
        if isinstance(observed, Observation):
            detail = observed.detail
        verdict = Verdict.DIFFERS
        if seen == belief.expected:
            verdict = Verdict.AS_BELIEVED
    elif is_denied(observed):
        verdict = Verdict.NOT_CHECKED
        seen = f"no permission for {observed.operation_name}"
        detail = str(observed)
    elif isinstance(observed, NotCheckedError | CancelledError):
        verdict = Verdict.NOT_CHECKED
        seen = str(observed)
    else:
        verdict = Verdict.ERROR
        seen = f"{type(observed).__name__}: {observed}"
    return Result(belief, verdict, _line(seen), _line(detail), seconds)


def _line(text: str) -> str:
    """
    Return a text, which AWS or others have written, as one line that every terminal can
    show.
    """
    line = " ".join(text.split())
    for character in set(line):
        if not character.isprintable():
            line = line.replace(character, "\N{REPLACEMENT CHARACTER}")
    if len(line) > MAX_TEXT:
        return f"{line[: MAX_TEXT - 3]}..."
    return line
