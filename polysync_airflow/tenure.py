"""
Owns what the garbage collector is spared: objects that stay for long, counted as old at once.

Enough new objects let Python go through all that a process has, which takes a tenth of a second with Airflow
imported and holds up each of its threads, the event loop among them. Of a service model, or of what a
thousand waits hold, nothing would be found to be garbage.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def tenure() -> None:
    """
    Have all that is young count as old, without a look at it. Takes no time, however much there is.

    What of it is garbage stays until Python looks through what is old: call this as often as something stays,
    not as often as something comes.
    """
    # Who keeps objects frozen (as before a fork) wants them to stay so.
    if not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()


@contextmanager
def tenured() -> Iterator[None]:
    """Have what is made meanwhile count as old."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        tenure()
        if enabled:
            gc.enable()
