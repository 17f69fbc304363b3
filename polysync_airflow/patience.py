"""Owns how long a call to AWS is repeated when only its way there, or AWS's haste, was at fault."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from polysync_airflow.exceptions import PolysyncError

Answer = TypeVar("Answer")

SHORTEST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
# A stop is worth some time: what is not stopped goes on costing money.
STOP_PATIENCE_SECONDS: Final = 600.0


def persist(call: Callable[[], Answer], *, until: float, warn: Callable[[str], object]) -> Answer:
    """
    Call until there is an answer: throttling, 5xx and lost connections are waited out.

    On top of botocore's own few repeats within each call, which end after seconds.

    :param call: the call; it must be harmless to repeat, as one with a token of its own is.
    :param until: when to give up (seconds since the epoch).
    :param warn: told once per new error.
    :raises PolysyncError: what cannot be waited out, or the last one when the time is up.
    """
    pause, last = SHORTEST_PAUSE_SECONDS, ""
    while True:
        try:
            return call()
        except PolysyncError as error:
            if not error.passing or time.time() + pause > until:
                raise
            if str(error) != last:
                last = str(error)
                warn(f"Will go on trying: {error}")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
