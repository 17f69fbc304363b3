"""
The foreground process group of the terminal, which receives the signal when a user
presses Ctrl-C.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_foreground() -> Iterator[None]:
    """
    Make this process the only one that Ctrl-C interrupts, for the time of the context.

    Otherwise ``make`` receives the signal too, and reports an error although this
    process ends correctly.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:  # without a terminal, there is no Ctrl-C
        yield
        return
    previous_group = os.tcgetpgrp(terminal)
    in_background = previous_group != os.getpgrp()
    if (
        in_background or previous_group == os.getpid()
    ):  # not interrupted at all, or already the only process
        os.close(terminal)
        yield
        return
    # A background process that changes the foreground group is stopped with SIGTTOU,
    # unless it ignores the signal.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, previous_group)
        os.close(terminal)
