"""
Runs a private Redis server: the broker, through which the scheduler sends tasks to the
Celery workers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.chaos.deployment.packages import PackageInstaller
from tests.system.airflow.private_airflow import HOST, free_port
from tests.system.process.sessions import (
    ProcessError,
    ProcessSession,
    end_all,
    wait_until,
)

PROGRAM: Final = "redis-server"
# In Debian, the server's program is in the package redis-tools under this name, and is
# a server when it is called redis-server. The package redis-server only adds a link,
# and a service that would start at once.
DEBIAN_PROGRAM: Final = "redis-check-rdb"
DEBIAN_PACKAGE: Final = "redis-tools"
START_TIMEOUT: Final = 30.0


class RedisServer:
    """
    A Redis server that listens only on the loopback interface, and requires a password.

    Each change is on disk before the server confirms it.

    :param program: the server's program.
    :param folder: a private folder for its settings, its data and its log.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        port, password = free_port(), secrets.token_hex()
        # Not a Unix socket: for that, Airflow does not set its default of the
        # visibility timeout.
        self.url = f"redis://:{password}@{HOST}:{port}/0"
        self._folder = folder
        self._program = folder / PROGRAM
        self._program.symlink_to(program)
        settings = {
            "bind": HOST,
            "port": f"{port}",
            "requirepass": password,
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": '""',
        }
        lines = (f"{name} {value}\n" for name, value in settings.items())
        # A file, because every user can read the arguments of a process.
        (folder / "redis.conf").write_text("".join(lines))
        self._server = self._serve()

    def wait_until_ready(self) -> None:
        """
        Wait until the server has read its data and responds.

        :raises ProcessError: if it does not start in time.
        """
        # The tests of the chaos cases' tables need no Redis.
        from redis import Redis
        from redis.exceptions import RedisError

        def ready() -> bool:
            self._server.check_alive()
            with Redis.from_url(self.url) as client:
                try:
                    return bool(client.ping())
                except RedisError:
                    return False

        if not wait_until(ready, timeout=START_TIMEOUT):
            raise ProcessError(
                f"Redis was not ready in {START_TIMEOUT:.0f} s.\n{self._server.log_tail()}"
            )

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self._server.kill()

    def restart(self) -> None:
        """Start the server again, after a kill, with the same data."""
        self._server = self._serve()
        self.wait_until_ready()

    def stop(self) -> None:
        """End the server."""
        end_all([self._server])

    def _serve(self) -> ProcessSession:
        command = (str(self._program), str(self._folder / "redis.conf"))
        return ProcessSession(
            "Redis", command, env=os.environ, log=self._folder / "redis.log"
        )


@contextmanager
def private_redis() -> Iterator[RedisServer]:
    """
    Run a Redis server for the time of the context.

    :raises ProcessError: if Redis cannot be installed or does not start.
    """
    program = find_program() or install()
    folder = Path(tempfile.mkdtemp(prefix="polysync-redis-"))
    try:
        server = RedisServer(program, folder)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def find_program() -> Path | None:
    """Return the program of the Redis server; None if it is not installed."""
    program = shutil.which(PROGRAM) or shutil.which(DEBIAN_PROGRAM)
    return Path(program).resolve() if program else None


def install() -> Path:
    """
    Install the Redis server, without a service.

    :raises ProcessError: if the installation fails; it requires root and apt-get.
    """
    PackageInstaller("The Redis server").install(DEBIAN_PACKAGE)
    program = find_program()
    if program is None:
        raise ProcessError(
            f"apt-get installed {DEBIAN_PACKAGE}, but there is no program {DEBIAN_PROGRAM}"
        )
    return program
