"""Runs the checks: those of one subject one after the other, the subjects side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import groupby
from threading import Lock
from typing import Final

from polysync_airflow.exceptions import ACCESS_DENIED, PolysyncError, SageMakerApiError, has_code
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.calls import CancelledError
from polysync_airflow.verification.models import Belief, NotCheckedError, Result, Verdict

# One for each subject. Each waits for AWS most of the time, and has one or two executions at a time: AWS lets
# an account run twenty.
WORKERS: Final = 12
MAX_TEXT: Final = 300
_ENDED: Final = "the run was ended"


def run(
    beliefs: Sequence[Belief],
    account: Account,
    *,
    workers: int = WORKERS,
    on_result: Callable[[Result], object] = lambda result: None,
) -> list[Result]:
    """
    Check beliefs.

    If it is interrupted, it ends the checks before it raises the interruption. Nothing is deleted here.

    :param on_result: called with each result, in the order in which the checks end, from several threads but
        never at the same time.
    :return: the results in the order of the beliefs.
    """
    results: dict[str, Result] = {}
    lock = Lock()

    def check_all(subject: Sequence[Belief]) -> None:
        for belief in subject:
            result = _check(belief, account)
            with lock:
                results[belief.id] = result
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
    return [results[belief.id] for belief in beliefs]


def with_unchecked(beliefs: Sequence[Belief], results: Sequence[Result]) -> list[Result]:
    """Return the results of a run, in the order of the beliefs, with those that it has not checked."""
    made = {result.belief.id: result for result in results}
    return [made.get(belief.id) or Result(belief, Verdict.NOT_CHECKED, _ENDED) for belief in beliefs]


def _check(belief: Belief, account: Account) -> Result:
    begin = clock.monotonic()
    verdict, seen, detail = _look(belief, account)
    return Result(
        belief,
        verdict,
        clean_line(seen, MAX_TEXT),
        clean_line(detail, MAX_TEXT),
        max(0.0, clock.monotonic() - begin),
    )


def _look(belief: Belief, account: Account) -> tuple[Verdict, str, str]:
    try:
        if belief.option and not account.options.has(belief.option):
            raise NotCheckedError(f"{belief.option} is not given")
        seen = belief.check(account)
    except NotCheckedError as reason:
        return Verdict.NOT_CHECKED, str(reason), ""
    except CancelledError:
        return Verdict.NOT_CHECKED, _ENDED, ""
    except PolysyncError as error:
        return _of_error(error)
    except Exception as error:
        # An answer that no check expects, such as a member of another type, must not end the others.
        return Verdict.ERROR, f"{type(error).__name__}: {error}", ""
    verdict = Verdict.AS_BELIEVED if seen.value == belief.expected else Verdict.DIFFERS
    return verdict, seen.value, seen.detail


def _of_error(error: PolysyncError) -> tuple[Verdict, str, str]:
    if isinstance(error, SageMakerApiError) and has_code(error, ACCESS_DENIED):
        return Verdict.NOT_CHECKED, f"no permission for {error.operation}", str(error)
    return Verdict.ERROR, str(error), ""
