"""Owns what happens when somebody asks a command of ours to end before its time."""

from __future__ import annotations

import signal
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedByPersonError(BaseException):
    """Somebody asked for the end. No Exception, as nobody but the command itself may catch it."""


def raise_when_interrupted() -> None:
    """Have Ctrl-C, TERM and HUP raise an `InterruptedByPersonError` in the main thread."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    # The first one only: the clean end that it begins takes seconds, and must not be interrupted itself.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise InterruptedByPersonError
