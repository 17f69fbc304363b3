"""
Runs a private PostgreSQL server, because deployments do not use SQLite, which allows
only one writer at a time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.chaos.deployment.packages import PackageInstaller, run
from tests.system.process.sessions import (
    ProcessError,
    ProcessSession,
    end_all,
    wait_until,
)

# PostgreSQL does not run as root. Debian's packages create this account.
ACCOUNT: Final = "postgres"
DATABASE_USER: Final = "airflow"
DEBIAN_FOLDER: Final = Path("/usr/lib/postgresql")
START_TIMEOUT: Final = 60.0
# Each component of Airflow opens up to fifteen connections, and each process of a
# Celery worker opens one.
MAX_CONNECTIONS: Final = 300


class PostgresServer:
    """
    A PostgreSQL server with an empty database. It listens only on a Unix socket.

    :param programs: the folder with PostgreSQL's programs.
    :param folder: the folder for its data, its log and its socket.
    :param user: the account that runs the server, if not the current one.
    """

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self._folder = folder
        self.url = self._url("postgres")
        self._programs, self._user = programs, user
        self._data = folder / "data"
        initdb = (
            str(programs / "initdb"),
            "--pgdata",
            str(self._data),
            "--username",
            DATABASE_USER,
        )
        options = ("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
        run(
            (*initdb, *options),
            user=user,
            timeout=START_TIMEOUT,
            env=os.environ,
            cwd=folder,
        )
        self._server = self._serve()

    def wait_until_ready(self) -> None:
        """
        Wait until the server accepts connections.

        :raises ProcessError: if it does not start in time.
        """
        command = (
            str(self._programs / "pg_isready"),
            "--quiet",
            "--host",
            str(self._folder),
        )

        def ready() -> bool:
            self._server.check_alive()
            return (
                subprocess.run(command, timeout=START_TIMEOUT, check=False).returncode
                == 0
            )

        if not wait_until(ready, timeout=START_TIMEOUT):
            raise ProcessError(
                f"PostgreSQL was not ready in {START_TIMEOUT:.0f} s.\n{self._server.log_tail()}"
            )

    def create_database(self, name: str) -> str:
        """Create another database, and return its SQLAlchemy URL."""
        engine = create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self._url(name)

    def copy_database(self, name: str) -> str:
        """
        Copy the first database to another one while it is in use, and return its
        SQLAlchemy URL.
        """
        url = self.create_database(name)
        access = ("--host", str(self._folder), "--username", DATABASE_USER)
        dump = subprocess.run(
            [str(self._programs / "pg_dump"), *access, "--dbname", "postgres"],
            check=True,
            stdout=subprocess.PIPE,
        )
        load = [str(self._programs / "psql"), *access, "--quiet", "--dbname", name]
        subprocess.run(
            [*load, "--set", "ON_ERROR_STOP=1"],
            check=True,
            input=dump.stdout,
            stdout=subprocess.DEVNULL,
        )
        return url

    def kill(self) -> None:
        """
        Kill all processes of the server with SIGKILL. Committed data survives, because
        the machine runs on.
        """
        # Each child process of the server is in a session of its own.
        children = psutil.Process(self._server.pid).children(recursive=True)
        self._server.kill()
        for child in children:
            child.kill()
        psutil.wait_procs(children, timeout=START_TIMEOUT)

    def restart(self) -> None:
        """Start the server again, after a kill, with the same data."""
        self._server = self._serve()
        self.wait_until_ready()

    def stop(self) -> None:
        """End the server."""
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients, and it
        # ends the server's child processes.
        self._server.signal(signal.SIGINT)
        wait_until(lambda: not self._server.members(), timeout=START_TIMEOUT)
        end_all([self._server])

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg2://{DATABASE_USER}@/{database}?host={self._folder}"

    def _serve(self) -> ProcessSession:
        # Faster without fsync: the data need not survive a crash of the machine.
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": str(MAX_CONNECTIONS),
            "fsync": "off",
            "full_page_writes": "off",
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        command += [
            part
            for name, value in settings.items()
            for part in ("-c", f"{name}={value}")
        ]
        log = self._folder / "postgres.log"
        return ProcessSession(
            "PostgreSQL", command, env=os.environ, log=log, user=self._user
        )


@contextmanager
def private_postgres() -> Iterator[PostgresServer]:
    """
    Run a PostgreSQL server for the time of the context.

    It listens only on a Unix socket in a private folder, which only root and the
    server's account can access.

    :raises ProcessError: if PostgreSQL cannot be installed or does not start.
    """
    programs = find_programs() or install()
    user = ACCOUNT if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="polysync-pg-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = PostgresServer(programs, folder, user)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def find_programs() -> Path | None:
    """
    Return the folder with the programs of the newest PostgreSQL server; None if no
    server is installed.
    """
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
    installer = PackageInstaller("The PostgreSQL server")
    # The server's package would create a database cluster and start it; this setting of
    # postgresql-common prevents it.
    installer.install("postgresql-common")
    settings = Path("/etc/postgresql-common/createcluster.conf")
    with settings.open("a") as file:
        file.write("create_main_cluster = false\n")
    installer.install("postgresql")
    programs = find_programs()
    if programs is None:
        raise ProcessError(
            f"apt-get installed PostgreSQL, but {DEBIAN_FOLDER} contains no server"
        )
    return programs
