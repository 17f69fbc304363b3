"""Installs Debian packages, and runs the commands that set up the servers of the deployment."""

from __future__ import annotations

import os
import shutil
import subprocess
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
            raise ProcessError(f"{program} is not installed. Install it, or run as root with apt-get.")
        self._apt = apt
        self._env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run((apt, "update", "--quiet"), timeout=INSTALL_TIMEOUT, env=self._env)

    def install(self, package: str) -> None:
        """
        Install a package.

        :raises ProcessError: if the installation fails.
        """
        options = ("--yes", "--quiet", "--no-install-recommends")
        run((self._apt, "install", *options, package), timeout=INSTALL_TIMEOUT, env=self._env)


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
