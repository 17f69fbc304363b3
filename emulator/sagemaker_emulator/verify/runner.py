"""Runs the checks: those of one subject one after the other, the subjects side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from itertools import groupby
from threading import Lock
from typing import Final

from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import CancelledError, is_denied
from sagemaker_emulator.verify.models import Belief, NotCheckedError, Result, Seen, Verdict

Listener = Callable[[Result], object]
# Each subject waits most of the time, and has one or two executions at a time. An account can run twenty.
WORKERS: Final = 10
MAX_TEXT: Final = 300
_ENDED: Final = "the run was ended"


def run(
    beliefs: Sequence[Belief], account: Account, workers: int = WORKERS, on_result: Listener = lambda _: None
) -> list[Result]:
    """
    Check beliefs.

    If it is interrupted, it ends the checks before it raises the interruption. Nothing is deleted here.

    :param on_result: called with each result, in the order in which the checks end, from several threads but
        never at the same time.
    :return: the results in the order of the beliefs.
    """
    results: list[Result] = []
    lock = Lock()

    def check_all(subject: Sequence[Belief]) -> None:
        for belief in subject:
            result = _check(belief, account)
            with lock:
                results.append(result)
                on_result(result)

    subjects = [list(group) for _, group in groupby(beliefs, lambda belief: belief.subject)]
    with ThreadPoolExecutor(workers, thread_name_prefix="polysync-verify") as pool:
        try:
            for future in as_completed([pool.submit(check_all, subject) for subject in subjects]):
                future.result()
        except BaseException:
            # The end of the block waits for the checks that run.
            account.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return with_unchecked(beliefs, results)


def with_unchecked(beliefs: Sequence[Belief], results: Sequence[Result]) -> list[Result]:
    """Return the results of a run, in the order of the beliefs, with those that it has not checked."""
    made = {result.belief.id: result for result in results}
    return [made.get(belief.id) or Result(belief, Verdict.NOT_CHECKED, _ENDED) for belief in beliefs]


def _check(belief: Belief, account: Account) -> Result:
    begin = account.now()
    verdict, seen = _look(belief, account)
    return Result(belief, verdict, _line(seen.value), _line(seen.detail), max(0.0, account.now() - begin))


def _look(belief: Belief, account: Account) -> tuple[Verdict, Seen]:
    try:
        if belief.option and belief.option not in account.options:
            raise NotCheckedError(f"{belief.option} is not given")
        scenarios = import_module(f"sagemaker_emulator.verify.scenarios.{belief.subject}s")
        observed = account.once(getattr(scenarios, belief.scenario))[belief.name]
        if isinstance(observed, NotCheckedError):
            raise observed
        seen = Seen(observed) if isinstance(observed, str) else observed
    except NotCheckedError as reason:
        return Verdict.NOT_CHECKED, Seen(str(reason))
    except CancelledError:
        return Verdict.NOT_CHECKED, Seen(_ENDED)
    except Exception as error:
        if is_denied(error):
            return Verdict.NOT_CHECKED, Seen(f"no permission for {error.operation_name}", str(error))
        # An answer that no check expects, such as a member of another type, must not end the others.
        return Verdict.ERROR, Seen(f"{type(error).__name__}: {error}")
    return (Verdict.AS_BELIEVED if seen.value == belief.expected else Verdict.DIFFERS), seen


def _line(text: str) -> str:
    """Return a text as one line that every terminal can show: AWS, and others, may have written it."""
    text = " ".join(text.split())
    line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 3]}..."
