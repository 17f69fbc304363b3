"""Owns one private PostgreSQL server, for no database that people deploy on has SQLite's single writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
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


@contextmanager
def private_postgres() -> Iterator[str]:
    """
    Run a PostgreSQL server while the context is open; only root and its own account can reach it.

    It listens on no network, just on a socket in a folder of its own.

    :returns: the address of its empty database, as SQLAlchemy writes it.
    :raises ProcessError: if PostgreSQL cannot be installed or does not start.
    """
    programs = find_programs() or install()
    user = ACCOUNT if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="polysync-pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = _serve(programs, folder, user)
        try:
            _await_answer(server, programs, folder)
            yield f"postgresql+psycopg2://{DATABASE_USER}@/postgres?host={folder}"
        finally:
            # "Fast": it ends its own children, which are in sessions of their own, and waits for no client.
            server.signal(signal.SIGINT)
            wait_until(lambda: not server.members(), timeout=START_TIMEOUT)
            end_all([server])
    finally:
        shutil.rmtree(folder)


def _serve(programs: Path, folder: Path, user: str | None) -> OwnedProcess:
    """Make a database in a folder and begin to serve it."""
    data = folder / "data"
    made = (str(programs / "initdb"), "--pgdata", str(data), "--username", DATABASE_USER)
    options = ("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
    _run((*made, *options), user=user, timeout=START_TIMEOUT, env=os.environ, cwd=folder)
    # Nobody needs this data after a crash of the machine.
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "max_connections": str(CONNECTIONS),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return OwnedProcess("PostgreSQL", command, env=os.environ, log=folder / "postgres.log", user=user)


def _await_answer(server: OwnedProcess, programs: Path, folder: Path) -> None:
    asked = (str(programs / "pg_isready"), "--quiet", "--host", str(folder))

    def answers() -> bool:
        server.check_alive()
        return subprocess.run(asked, timeout=START_TIMEOUT, check=False).returncode == 0

    if not wait_until(answers, timeout=START_TIMEOUT):
        raise ProcessError(f"PostgreSQL does not answer.\n{server.log_tail()}")


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
