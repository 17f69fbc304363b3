"""Owns the terminal's foreground: who is told when somebody presses Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_foreground() -> Iterator[None]:
    """
    Be the only one that Ctrl-C reaches.

    Otherwise the ``make`` that runs us gets it as well, and reports an error although we end well.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:  # there is none, so nobody can press anything
        yield
        return
    caller = os.tcgetpgrp(terminal)
    if caller != os.getpgrp() or caller == os.getpid():  # in the background, or alone anyway
        os.close(terminal)
        yield
        return
    # Whoever changes the foreground from the background is stopped, unless it ignores this signal.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, caller)
        os.close(terminal)
