"""
Installs Debian packages, and runs the commands that set up the servers of the
deployment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.system.process.sessions import ProcessError

INSTALL_TIMEOUT: Final = 600.0


class PackageInstaller:
    """
    Installs packages with apt-get.

    :param program: the program that is needed, for the error message.
    :raises ProcessError: if the process is not root, or the machine has no apt-get.
    """

    def __init__(self, program: str) -> None:
        apt = shutil.which("apt-get")
        if not apt or os.geteuid() != 0:
            raise ProcessError(
                f"{program} is not installed. Install it, or run as root with apt-get."
            )
        self._apt = apt
        self._env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        self._run("update", "--quiet")

    def install(self, package: str) -> None:
        """
        Install a package.

        :raises ProcessError: if the installation fails.
        """
        options = ("--yes", "--quiet", "--no-install-recommends")
        self._run("install", *options, package)

    def _run(self, *arguments: str) -> None:
        # Two stages of CI may install at the same time, and apt-get fails if another
        # one holds its locks.
        with Path(tempfile.gettempdir(), "polysync-apt-get.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run((self._apt, *arguments), timeout=INSTALL_TIMEOUT, env=self._env)


def run(
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    user: str | None = None,
    cwd: Path | None = None,
) -> None:
    """
    Run a command.

    :raises ProcessError: if it fails; the message has its output.
    """
    completed = subprocess.run(
        command,
        timeout=timeout,
        env=dict(env),
        user=user,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise ProcessError(
            f"{' '.join(command)} exited with status {completed.returncode}:\n{completed.stdout}{completed.stderr}"
        )
