"""Owns a process of ours with everything that it started, so that nothing is left running at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

GRACE = 10.0
LOG_TAIL_LINES = 40


class ProcessError(RuntimeError):
    """A process of ours ended by itself, or did not become ready in time. Says how its log ends."""


class OwnedProcess:
    """
    A command in a session of its own.

    A session, since a process group is not enough: Airflow gives each task a group of its own, but not even a
    grandchild leaves the session unless it wants to.

    :param name: for messages.
    :param command: program and arguments.
    :param env: the whole environment.
    :param log: where its output goes, appended.
    :param user: whose process it is, if not ours; that takes root.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, user: str | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )

    @property
    def pid(self) -> int:
        """The first process; also the id of the session."""
        return self._process.pid

    def members(self) -> list[int]:
        """All processes of the session that still run."""
        return sessions_members([self.pid])

    def check_alive(self) -> None:
        """
        Make sure that the first process runs.

        :raises ProcessError: if it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise ProcessError(f"{self.name} ended with status {status}.\n{self.log_tail()}")

    def wait(self, timeout: float) -> None:
        """
        Wait until the first process has ended well.

        :param timeout: seconds.
        :raises ProcessError: if it has not, or with a status other than 0.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} took over {timeout:.0f} s.\n{self.log_tail()}") from None
        if status:
            raise ProcessError(f"{self.name} ended with status {status}.\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of its log, with the log's place."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in lines)])

    def signal(self, number: signal.Signals, *, session: bool = False) -> None:
        """
        Send a signal to the first process, if it still runs.

        :param number: the signal.
        :param session: to everything that it started as well.
        """
        _signal([self.pid], number) if session else self._process.send_signal(number)

    def kill(self) -> None:
        """End the whole session at once, as a crash of the machine would."""
        end_all([self], grace=0)


def end_all(processes: Iterable[OwnedProcess], *, grace: float = GRACE) -> None:
    """
    End processes and everything that they started: TERM, then KILL.

    :param processes: what to end; may have ended already.
    :param grace: seconds between the two; 0 for KILL at once.
    :raises ProcessError: if something still runs.
    """
    owned = list(processes)
    sessions = [process.pid for process in owned]
    if grace:
        _signal(sessions, signal.SIGTERM)
        wait_until(lambda: not _running(owned, sessions), timeout=grace)
    # Again and again, since one may have just started another.
    if not wait_until(lambda: not _running(owned, sessions, then=signal.SIGKILL), timeout=GRACE):
        raise ProcessError(f"Still running: processes {sessions_members(sessions)}")


def sessions_members(sessions: Iterable[int]) -> list[int]:
    """All processes of the given sessions that still run."""
    wanted = set(sessions)
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in wanted and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # ended meanwhile, or another user's
    return members


def wait_until(condition: Callable[[], bool], *, timeout: float, interval: float = 0.2) -> bool:
    """
    Wait until something is so.

    :returns: whether it came to be so in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def _running(
    processes: Iterable[OwnedProcess], sessions: Iterable[int], *, then: signal.Signals | None = None
) -> bool:
    for process in processes:
        process._process.poll()  # take its status, so that it is no zombie
    if then is not None:
        _signal(sessions, then)
    return bool(sessions_members(sessions))


def _signal(sessions: Iterable[int], number: signal.Signals) -> None:
    for pid in sessions_members(sessions):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # ended meanwhile
