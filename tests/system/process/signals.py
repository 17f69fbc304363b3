"""Signals that interrupt the demo or the chaos suite: Ctrl-C, TERM and HUP."""

from __future__ import annotations

import signal
from typing import Final, NoReturn

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedByUserError(BaseException):
    """
    A signal asked the process to end. Not an ``Exception``, so that only the command's
    main function catches it.
    """


def raise_on_signals() -> None:
    """Raise an `InterruptedByUserError` in the main thread on Ctrl-C, TERM or HUP."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    # Ignore further signals: the cleanup that follows takes seconds and must not be
    # interrupted.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise InterruptedByUserError
