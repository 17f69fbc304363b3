"""Owns how long a call to AWS is repeated when only its way there, or AWS's haste, was at fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError, hint_for

Answer = TypeVar("Answer")

MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0
# A conflict lasts as long as AWS moves between two steps; one that does not end is about something else.
CONFLICT_TIMEOUT_SECONDS: Final = 60.0
STEP_LISTING_TIMEOUT_SECONDS: Final = 60.0
# A stop is worth some time: what is not stopped goes on costing money.
STOP_TIMEOUT_SECONDS: Final = 600.0


def call_with_retry(call: Callable[[], Answer], *, until: float, warn: Callable[[str], object]) -> Answer:
    """
    Call until there is an answer: throttling, 5xx and lost connections are waited out.

    On top of botocore's own few repeats within each call, which end after seconds.

    :param call: the call; it must be harmless to repeat, as one with a token of its own is.
    :param until: when to give up (seconds since the epoch).
    :param warn: told once per new error.
    :raises PolysyncError: what cannot be waited out, or the last one when the time is up.
    """
    conflicts_until = min(until, time.time() + CONFLICT_TIMEOUT_SECONDS)
    pause, last = MIN_BACKOFF_SECONDS, ""
    while True:
        try:
            return call()
        except PolysyncError as error:
            limit = conflicts_until if _is_conflict(error) else until
            if not error.transient or time.time() + pause > limit:
                raise
            if str(error) != last:
                last = str(error)
                warn(f"Will go on trying: {error}")
        time.sleep(pause)
        pause = min(pause * 2, MAX_BACKOFF_SECONDS)


def _is_conflict(error: PolysyncError) -> bool:
    conflict = hint_for("ConflictException")
    return isinstance(error, SageMakerApiError) and hint_for(error.error_code) is conflict
