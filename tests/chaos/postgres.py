"""Owns one private PostgreSQL server, for no database that people deploy on has SQLite's single writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.system.processes import OwnedProcess, ProcessError, end_all, wait_until

# PostgreSQL refuses to run as root; Debian's packages make this account.
ACCOUNT: Final = "postgres"
DATABASE_USER: Final = "airflow"
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
START_TIMEOUT: Final = 60.0
INSTALL_TIMEOUT: Final = 600.0
# Airflow's components hold up to fifteen connections each.
CONNECTIONS: Final = 300


class Postgres:
    """
    A PostgreSQL server while its context is open; only root and its own account can reach it.

    It listens on no network, just on a socket in a folder of its own.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="polysync-pg-"))
        self._user = ACCOUNT if os.geteuid() == 0 else None
        self._programs = Path()
        self._process: OwnedProcess | None = None

    @property
    def url(self) -> str:
        """Its empty database, as SQLAlchemy writes an address."""
        return f"postgresql+psycopg2://{DATABASE_USER}@/postgres?host={self._folder}"

    def start(self) -> None:
        """
        Make a database in the folder and serve it.

        :raises ProcessError: if PostgreSQL cannot be installed or does not start.
        """
        programs = self._programs = find_programs() or install()
        if self._user:
            shutil.chown(self._folder, self._user)
        data = self._folder / "data"
        self._run(
            *(str(programs / "initdb"), "--pgdata", str(data), "--username", DATABASE_USER),
            *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"),
        )
        # Nobody needs this data after a crash of the machine.
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": str(CONNECTIONS),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        log = self._folder / "postgres.log"
        self._process = OwnedProcess("PostgreSQL", command, env=os.environ, log=log, user=self._user)
        if not wait_until(self._answers, timeout=START_TIMEOUT):
            raise ProcessError(f"PostgreSQL does not answer.\n{self._process.log_tail()}")

    def stop(self) -> None:
        """End it and remove its data."""
        if self._process:
            # "Fast": it ends its own children, which are in sessions of their own, and waits for no client.
            self._process.signal(signal.SIGINT)
            wait_until(lambda: not self._process or not self._process.members(), timeout=START_TIMEOUT)
            end_all([self._process])
        shutil.rmtree(self._folder)

    def __enter__(self) -> Postgres:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self._process
        self._process.check_alive()
        asked = (str(self._programs / "pg_isready"), "--quiet", "--host", str(self._folder))
        return subprocess.run(asked, timeout=START_TIMEOUT, check=False).returncode == 0

    def _run(self, *command: str) -> None:
        _run(command, user=self._user, timeout=START_TIMEOUT, env=os.environ, cwd=self._folder)


def find_programs() -> Path | None:
    """Find the folder of the newest PostgreSQL server's programs; None if there is no server."""
    debians = DEBIAN_FOLDER.glob("*/bin/postgres")
    newest = max(debians, key=lambda program: int(program.parts[-3]), default=None)
    found = newest or shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def install() -> Path:
    """
    Install Debian's PostgreSQL server without letting it start.

    :returns: the folder of its programs.
    :raises ProcessError: if that is impossible, as without root or apt-get.
    """
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        raise ProcessError("PostgreSQL's server is not installed, and to install it takes root and apt-get")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = (apt, "install", "--yes", "--quiet", "--no-install-recommends")
    _run((apt, "update", "--quiet"), timeout=INSTALL_TIMEOUT, env=quiet)
    # The server's package makes a cluster and starts it, unless this file of the other package says no.
    _run((*get, "postgresql-common"), timeout=INSTALL_TIMEOUT, env=quiet)
    choice = Path("/etc/postgresql-common/createcluster.conf")
    with choice.open("a") as settings:
        settings.write("create_main_cluster = false\n")
    _run((*get, "postgresql"), timeout=INSTALL_TIMEOUT, env=quiet)
    found = find_programs()
    if found is None:
        raise ProcessError(f"apt-get installed PostgreSQL, but there is no server below {DEBIAN_FOLDER}")
    return found


def _run(
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    user: str | None = None,
    cwd: Path | None = None,
) -> None:
    done = subprocess.run(
        command,
        timeout=timeout,
        env=dict(env),
        user=user,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ProcessError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
