"""
Retries with backoff: which errors are retried, how long, after which waits, and what is
logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    CredentialsError,
    PolysyncError,
    SageMakerApiError,
)
from tests.fakes.stopped_clock import START, StoppedClock


def make_error(
    message: str = "slow down",
    *,
    code: str = "ThrottlingException",
    transient: bool = True,
) -> SageMakerApiError:
    """Return an error as the hook raises it."""
    return SageMakerApiError(
        message,
        error_code=code,
        operation="StopPipelineExecution",
        permanent=not transient,
        transient=transient,
    )


def failing(*errors: Exception, result: str = "done") -> Callable[[], str]:
    """
    Return a call that raises these errors, one in each attempt, then returns a result.
    """
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return result

    return call


def always_failing(error: Exception) -> Callable[[], Any]:
    """Return a call that raises an error in each attempt."""

    def call() -> None:
        raise error

    return call


def call_for(seconds: float, call: Callable[[], Any], **arguments: Any) -> Any:
    """Make a call, and repeat it for some seconds at the most."""
    arguments = {"warn": lambda _: None, **arguments}
    return call_with_retry(call, until=START + seconds, **arguments)


def test_successful_call_is_made_once(stopped_clock: StoppedClock) -> None:
    """A call that succeeds is neither repeated nor delayed, even if the time is up."""
    warnings: list[str] = []

    assert call_for(-1, failing(), warn=warnings.append) == "done"

    assert (stopped_clock.sleeps, warnings) == ([], [])


@pytest.mark.parametrize(
    "error",
    [
        make_error(code="AccessDeniedException", transient=False),
        CredentialsError("no such connection"),
        PolysyncError("wrong argument"),
        ZeroDivisionError("a bug"),
        ConnectionError("not an error of the hook"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_at_once(
    error: Exception, stopped_clock: StoppedClock
) -> None:
    """
    An error that is not transient, or not of this package, is raised as it is and is
    not retried.
    """
    warnings: list[str] = []

    with pytest.raises(type(error)) as caught:
        call_for(3600, always_failing(error), warn=warnings.append)

    assert caught.value is error
    assert (stopped_clock.sleeps, warnings) == ([], [])


def test_transient_errors_of_the_sign_in_are_retried(
    stopped_clock: StoppedClock,
) -> None:
    """A failed sign-in is retried as well, if its error is transient."""
    error = CredentialsError("STS did not respond", permanent=False, transient=True)

    assert call_for(60, failing(error)) == "done"
    assert stopped_clock.sleeps == [1]


THROTTLING = "ThrottlingException"
CONFLICT = "ConflictException"


@pytest.mark.parametrize(
    ("limit", "codes", "sleeps"),
    [
        (0, [THROTTLING], []),
        (0.5, [THROTTLING], []),
        (1, [THROTTLING], [1]),
        (10, [THROTTLING], [1, 2, 4]),
        (15, [THROTTLING], [1, 2, 4, 8]),
        (200, [THROTTLING], [1, 2, 4, 8, 16, 32, 60, 60]),
        # A conflict is repeated for a minute, as an error says: AWS reports it while an
        # execution moves between two steps.
        (600, [CONFLICT], [1, 2, 4, 8, 16, 29]),
        (5, [CONFLICT], [1, 2, 2]),
        (0, [CONFLICT], []),
        (600, [*6 * [THROTTLING], CONFLICT], [1, 2, 4, 8, 16, 32]),
    ],
)
def test_no_attempt_begins_after_the_time_limit(
    limit: float, codes: list[str], sleeps: list[float], stopped_clock: StoppedClock
) -> None:
    """
    The backoff doubles up to a minute. When the next attempt would begin after
    ``until``, the last error is raised without a further wait, and not logged.
    """
    errors = [
        make_error(f"error {number}", code=code)
        for number, code in enumerate([*codes, *20 * codes[-1:]])
    ]
    warnings: list[str] = []

    with pytest.raises(SageMakerApiError) as caught:
        call_for(limit, failing(*errors), warn=warnings.append)

    assert stopped_clock.sleeps == sleeps
    assert caught.value is errors[len(sleeps)]
    assert len(warnings) == len(sleeps)


def test_time_of_the_call_itself_counts(stopped_clock: StoppedClock) -> None:
    """The time limit includes the time that the attempts take."""

    def slow_call() -> None:
        stopped_clock.seconds += 50
        raise make_error()

    with pytest.raises(SageMakerApiError):
        call_for(100, slow_call)

    assert stopped_clock.sleeps == [1]


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_jump_of_the_clock_changes_no_limit(
    ahead: float, stopped_clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set meanwhile ends the retries neither sooner nor later."""
    sleeps = stopped_clock.sleeps
    monkeypatch.setattr(stopped_clock, "monotonic", lambda: START + sum(sleeps))

    def jump() -> str:
        stopped_clock.seconds = START + sum(sleeps) + ahead
        raise make_error()

    with pytest.raises(SageMakerApiError):
        call_for(100, jump)

    assert sleeps == [1, 2, 4, 8, 16, 32]


def test_each_new_error_is_logged_once(stopped_clock: StoppedClock) -> None:
    """
    There is one warning for a sequence of equal errors, and another one when the error
    changes.
    """
    errors = [
        make_error(message)
        for message in ("slow down", "slow down", "no response", "slow down")
    ]
    warnings: list[str] = []

    call_for(3600, failing(*errors), warn=warnings.append)

    assert warnings == [
        f"Transient error, retrying: {message}"
        for message in ("slow down", "no response", "slow down")
    ]
