"""
Results that many requests share, so that whoever asks often, or for much, occupies no
more of the API server than one person who asks once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from threading import Lock
from typing import Final

from fastapi import HTTPException

from polysync_airflow.execution import clock

# Whoever waits has one of the 40 threads in which FastAPI runs most endpoints, also
# those of Airflow.
MAX_WAITING: Final = 4
# One that calculates, and one that waits.
MAX_OF_ONE_USER: Final = 2
MAX_RESULTS: Final = 32
SECONDS_SHARED: Final = 10.0
# In seconds. Nobody who asks again then has to wait for much longer than before.
RETRY_AFTER: Final = 3


class SharedResults:
    """
    The results of the last seconds, and one calculation at a time in this process.

    :param now: returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = clock.monotonic) -> None:
        self._now = now
        # By user: how many places they have.
        self._places: Counter[str] = Counter()
        self._change = Lock()
        self._turn = Lock()
        # By key: when it was calculated, the oldest first, and the result.
        self._results: dict[Hashable, tuple[float, bytes]] = {}

    @contextmanager
    def place(self, user: str) -> Iterator[None]:
        """
        Have one of the few places of those that calculate or wait.

        :param user: the id of the user who asks, so that nobody has all of them.
        :raises HTTPException: all are taken, or the user has enough.
        """
        if not self._takes_place(user):
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Other requests for summaries come first."
                f" Ask again in {RETRY_AFTER} s.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        try:
            yield
        finally:
            with self._change:
                # Nobody who has no place is remembered.
                self._places -= Counter([user])

    def _takes_place(self, user: str) -> bool:
        with self._change:
            if self._places.total() > MAX_WAITING:
                return False
            if self._places[user] >= MAX_OF_ONE_USER:
                return False
            self._places[user] += 1
            return True

    def get(self, key: Hashable, calculate: Callable[[], bytes]) -> bytes:
        """
        Return a result of the last seconds, or calculate it when all that came before
        have theirs.

        :param key: all that the result depends on, such as what the user may read.
        """
        with self._turn:
            self._forget_old()
            if key not in self._results:
                content = calculate()
                if len(self._results) == MAX_RESULTS:
                    del self._results[next(iter(self._results))]
                self._results[key] = (self._now(), content)
            return self._results[key][1]

    def _forget_old(self) -> None:
        oldest = self._now() - SECONDS_SHARED
        self._results = {
            key: result for key, result in self._results.items() if result[0] > oldest
        }
