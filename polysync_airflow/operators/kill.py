"""Whether Airflow asks the process of a task to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from polysync_airflow.execution.lifecycle import instructions, machine


class Kill:
    """
    The request of Airflow that this process ends: a signal, or ``execution_timeout``.

    Airflow's signal handler writes it at any point of the main thread's code.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self._is_shutdown = False
        self._sleeps = False

    @property
    def sleeps(self) -> bool:
        """Whether the main thread only waits."""
        return self._sleeps

    def request(self) -> None:
        """Note that the process shall end: it starts nothing, and waits no more."""
        self._is_requested = True

    def note_shutdown(self) -> None:
        """Note that the worker shuts down, so that the execution is the next try's."""
        self._is_shutdown = True

    @property
    def event(self) -> instructions.Killed | None:
        """What the core is told; None if the process goes on."""
        if not self._is_requested:
            return None
        return instructions.Killed(is_shutdown=self._is_shutdown)

    @contextmanager
    def sleeping(self) -> Iterator[None]:
        """
        Mark the block as one in which the main thread only waits.

        :raises PolysyncError: the worker shuts down.
        """
        self._sleeps = True
        try:
            self.raise_if_shut_down()
            yield
        finally:
            self._sleeps = False

    def raise_if_shut_down(self) -> None:
        """Raise an error if the worker shuts down."""
        if self._is_shutdown:
            raise machine.shutdown_error()

    def raise_if_requested(self) -> None:
        """Raise an error if the process shall end."""
        self.raise_if_shut_down()
        if self._is_requested:
            raise machine.killed_error()
