"""
Retries calls to AWS that fail with a transient error: throttling, a conflict, HTTP 5xx,
a lost connection.

These retries come on top of botocore's own, which end after seconds. ``retrying.py`` at
the top of the package is something else: it decides about Airflow's retries of the
whole task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from polysync_airflow import exceptions
from polysync_airflow.execution import clock

Result = TypeVar("Result")

MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0
STEP_LISTING_TIMEOUT_SECONDS: Final = 60.0
# Longer than the others: an execution that is not stopped goes on costing money.
STOP_TIMEOUT_SECONDS: Final = 600.0
# Many tasks may update one pipeline, one after the other.
PUT_TIMEOUT_SECONDS: Final = 600.0


def call_with_retry(
    call: Callable[[], Result],
    *,
    until: float,
    warn: Callable[[str], object],
    sleep: Callable[[float], None] | None = None,
    conflict_seconds: float = exceptions.CONFLICT_SECONDS,
) -> Result:
    """
    Make a call, and repeat it with exponential backoff while it fails with a transient
    error.

    :param call: the call. It must be safe to repeat, for example because it sends a
        client request token.
    :param until: when to give up, in Unix time.
    :param warn: called with a message once for each new error.
    :param sleep: waits for a number of seconds between two calls. Default:
        ``clock.sleep``.
    :param conflict_seconds: for how long at most it is repeated after a conflict.
    :raises PolysyncError: an error that is not transient, or the last error when the
        time is up.
    """
    steady = clock.SteadyTime()
    conflict_until = min(until, steady.time() + conflict_seconds)
    last_message = ""
    backoff = wait_exponential(multiplier=MIN_BACKOFF_SECONDS, max=MAX_BACKOFF_SECONDS)

    def wait(state: RetryCallState) -> float:
        seconds = backoff(state)
        left = conflict_until - steady.time()
        if exceptions.has_code(_error_of(state), exceptions.CONFLICT) and left > 0:
            # The last call is at the end of the time, as the error says.
            return min(seconds, left)
        return seconds

    def give_up(state: RetryCallState) -> bool:
        now = steady.time()
        if exceptions.has_code(_error_of(state), exceptions.CONFLICT):
            return now >= conflict_until
        return now + state.upcoming_sleep > until

    def warn_once(state: RetryCallState) -> None:
        nonlocal last_message
        message = str(_error_of(state))
        if message != last_message:
            last_message = message
            warn(f"Transient error, retrying: {message}")

    def is_transient(error: BaseException) -> bool:
        return isinstance(error, exceptions.PolysyncError) and error.transient

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait,
        stop=give_up,
        before_sleep=warn_once,
        sleep=sleep or clock.sleep,
        reraise=True,
    )
    return retrying(call)


def _error_of(state: RetryCallState) -> BaseException | None:
    if state.outcome is None:
        return None
    return state.outcome.exception()
