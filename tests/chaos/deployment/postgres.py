"""Runs a private PostgreSQL server, because deployments do not use SQLite, which allows only one writer at a time."""

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

from tests.system.process.sessions import ProcessError, ProcessSession, end_all, wait_until

# PostgreSQL does not run as root. Debian's packages create this account.
ACCOUNT: Final = "postgres"
DATABASE_USER: Final = "airflow"
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
START_TIMEOUT: Final = 60.0
INSTALL_TIMEOUT: Final = 600.0
# Each component of Airflow opens up to fifteen connections.
MAX_CONNECTIONS: Final = 300


@contextmanager
def private_postgres() -> Iterator[str]:
    """
    Run a PostgreSQL server for the time of the context.

    It listens only on a Unix socket in a private folder, which only root and the server's account can access.

    :return: the SQLAlchemy URL of its empty database.
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
            _wait_until_ready(server, programs, folder)
            yield f"postgresql+psycopg2://{DATABASE_USER}@/postgres?host={folder}"
        finally:
            # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients, and it ends the server's child
            # processes, which are in sessions of their own.
            server.signal(signal.SIGINT)
            wait_until(lambda: not server.members(), timeout=START_TIMEOUT)
            end_all([server])
    finally:
        shutil.rmtree(folder)


def _serve(programs: Path, folder: Path, user: str | None) -> ProcessSession:
    """Create a database in a folder, and start the server."""
    data = folder / "data"
    initdb = (str(programs / "initdb"), "--pgdata", str(data), "--username", DATABASE_USER)
    options = ("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
    _run((*initdb, *options), user=user, timeout=START_TIMEOUT, env=os.environ, cwd=folder)
    # Faster without durability: the data need not survive a crash of the machine.
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        "max_connections": str(MAX_CONNECTIONS),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
    }
    command = [str(programs / "postgres"), "-D", str(data)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return ProcessSession("PostgreSQL", command, env=os.environ, log=folder / "postgres.log", user=user)


def _wait_until_ready(server: ProcessSession, programs: Path, folder: Path) -> None:
    command = (str(programs / "pg_isready"), "--quiet", "--host", str(folder))

    def ready() -> bool:
        server.check_alive()
        return subprocess.run(command, timeout=START_TIMEOUT, check=False).returncode == 0

    if not wait_until(ready, timeout=START_TIMEOUT):
        raise ProcessError(f"PostgreSQL was not ready in {START_TIMEOUT:.0f} s.\n{server.log_tail()}")


def find_programs() -> Path | None:
    """Return the folder with the programs of the newest PostgreSQL server; None if no server is installed."""
    servers = DEBIAN_FOLDER.glob("*/bin/postgres")
    newest = max(servers, key=lambda program: int(program.parts[-3]), default=None)
    program = newest or shutil.which("postgres")
    return Path(program).resolve().parent if program else None


def install() -> Path:
    """
    Install Debian's PostgreSQL server, without starting it.

    :return: the folder with its programs.
    :raises ProcessError: if the installation fails; it requires root and apt-get.
    """
    apt = shutil.which("apt-get")
    if not apt or os.geteuid() != 0:
        raise ProcessError("The PostgreSQL server is not installed. Install it, or run as root with apt-get.")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    get = (apt, "install", "--yes", "--quiet", "--no-install-recommends")
    _run((apt, "update", "--quiet"), timeout=INSTALL_TIMEOUT, env=quiet)
    # The server's package would create a database cluster and start it; this setting of postgresql-common prevents it.
    _run((*get, "postgresql-common"), timeout=INSTALL_TIMEOUT, env=quiet)
    settings = Path("/etc/postgresql-common/createcluster.conf")
    with settings.open("a") as file:
        file.write("create_main_cluster = false\n")
    _run((*get, "postgresql"), timeout=INSTALL_TIMEOUT, env=quiet)
    programs = find_programs()
    if programs is None:
        raise ProcessError(f"apt-get installed PostgreSQL, but {DEBIAN_FOLDER} contains no server")
    return programs


def _run(
    command: Sequence[str],
    *,
    timeout: float,
    env: Mapping[str, str],
    user: str | None = None,
    cwd: Path | None = None,
) -> None:
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
