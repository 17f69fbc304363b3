"""
Finds out whether others receive the messages of a queue, too, which SQS does not tell.

A reader gives messages back before it uses them. SQS hands a message to one consumer at a time, so one that
others take, and delete, does not return.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from polysync_airflow.execution.events.resources import VISIBILITY_SECONDS

# Who joins later finds out by itself, if it is a reader.
CHECK_EVERY_SECONDS: Final = 24 * 3600.0
# A message that a killed process has received returns when its visibility timeout has passed.
RETURN_SECONDS: Final = 2.0 * VISIBILITY_SECONDS
# A receive that had room for more has asked all servers of SQS. How many must not bring the message then.
MIN_RECEIVES: Final = 3


class ConsumerCheck:
    """A check of a queue, which is repeated once a day. Times are seconds of ``clock.monotonic``."""

    def __init__(self) -> None:
        self.begin((), -math.inf)

    def is_due(self, now: float) -> bool:
        """Return whether new messages are to be given back."""
        return now - self._begun_at >= CHECK_EVERY_SECONDS

    def begin(self, message_ids: Iterable[str], now: float) -> None:
        """Note which messages were given back."""
        self._begun_at, self._given_back, self._receives = now, set(message_ids), 0

    def missing(self, message_ids: Iterable[str], *, has_room: bool, now: float) -> set[str]:
        """
        Return the messages that others have taken, once.

        :param message_ids: the messages of a receive.
        :param has_room: it could have had more of them.
        """
        self._given_back.difference_update(message_ids)
        self._receives += has_room and now - self._begun_at >= RETURN_SECONDS
        if self._receives < MIN_RECEIVES:
            return set()
        missing, self._given_back = self._given_back, set()
        return missing
