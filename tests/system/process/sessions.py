"""
Processes that run in sessions of their own, so that they can be ended together with all
their descendants.
"""

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
    """
    Raised when a process ended unexpectedly or was not ready in time. The message has
    the end of its log.
    """


class ProcessSession:
    """
    A command that runs in a new session.

    A process group is not enough: Airflow starts each task in a process group of its
    own. Descendants stay in the session unless they leave it on purpose.

    :param name: the name of the process in messages.
    :param command: program and arguments.
    :param env: the complete environment.
    :param log: the file to which its output is appended.
    :param user: the user that runs the process, if not the current one; requires root.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        user: str | None = None,
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
        """The id of the first process, which is also the id of the session."""
        return self._process.pid

    def members(self) -> list[int]:
        """Return the ids of all running processes of the session."""
        return session_members([self.pid])

    def status(self) -> int | None:
        """Return the exit status of the first process; None while it runs."""
        return self._process.poll()

    def check_alive(self) -> None:
        """
        Check that the first process runs.

        :raises ProcessError: if it ended.
        """
        if (status := self.status()) is not None:
            raise ProcessError(
                f"{self.name} exited with status {status}.\n{self.log_tail()}"
            )

    def wait(self, timeout: float) -> None:
        """
        Wait until the first process ends with status 0.

        :param timeout: seconds to wait.
        :raises ProcessError: if it does not end in time, or ends with another status.
        """
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(
                f"{self.name} did not end in {timeout:.0f} s.\n{self.log_tail()}"
            ) from None
        if status:
            raise ProcessError(
                f"{self.name} exited with status {status}.\n{self.log_tail()}"
            )

    def log_tail(self) -> str:
        """Return the path of the log and its last lines."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(
            [f"Last lines of {self.log}:", *(f"  {line}" for line in lines)]
        )

    def signal(self, number: signal.Signals, *, session: bool = False) -> None:
        """
        Send a signal to the first process, if it still runs.

        :param number: the signal.
        :param session: whether to send it to all processes of the session.
        """
        _signal([self.pid], number) if session else self._process.send_signal(number)

    def kill(self) -> None:
        """
        Kill all processes of the session with SIGKILL, as in a crash of the machine.
        """
        end_all([self], grace=0)


def end_all(processes: Iterable[ProcessSession], *, grace: float = GRACE) -> None:
    """
    End processes and all their descendants with TERM, then with KILL.

    :param processes: the processes; some may have ended already.
    :param grace: seconds between TERM and KILL; 0 to send only KILL.
    :raises ProcessError: if a process still runs.
    """
    owned = list(processes)
    sessions = [process.pid for process in owned]
    if grace:
        _signal(sessions, signal.SIGTERM)
        wait_until(lambda: not _running(owned, sessions), timeout=grace)
    # Repeat KILL, because a process may have started another one in the meantime.
    if not wait_until(
        lambda: not _running(owned, sessions, then=signal.SIGKILL), timeout=GRACE
    ):
        raise ProcessError(
            f"Processes still running after SIGKILL: {session_members(sessions)}"
        )


def session_members(sessions: Iterable[int]) -> list[int]:
    """Return the ids of all running processes of the given sessions."""
    wanted = set(sessions)
    members = []
    for process in psutil.process_iter():
        try:
            if (
                os.getsid(process.pid) in wanted
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                members.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # the process ended meanwhile, or belongs to another user
    return members


def wait_until(
    condition: Callable[[], bool], *, timeout: float, interval: float = 0.2
) -> bool:
    """
    Wait until a condition is true.

    :param condition: the condition.
    :param timeout: seconds to wait.
    :param interval: seconds between two checks.
    :return: whether the condition became true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def _running(
    processes: Iterable[ProcessSession],
    sessions: Iterable[int],
    *,
    then: signal.Signals | None = None,
) -> bool:
    for process in processes:
        # read the exit status, so that the process does not remain a zombie
        process.status()
    if then is not None:
        _signal(sessions, then)
    return bool(session_members(sessions))


def _signal(sessions: Iterable[int], number: signal.Signals) -> None:
    for pid in session_members(sessions):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # the process ended meanwhile
