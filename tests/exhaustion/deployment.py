"""
The deployment of the suite: that of the chaos suite, with a server between Airflow and
the emulator, a small folder of logs, names that can fail, and clocks that can jump.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from polysync_airflow.auth.iam_policies import caller_trust
from tests.chaos.deployment.airflow_deployment import (
    FIRST,
    LOCAL,
    PYTHONPATH,
    REPOSITORY,
    SECOND,
    AirflowDeployment,
)
from tests.exhaustion.front import HOST, Front, serving
from tests.exhaustion.host import Clock, SmallFolder
from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.fake_server import FakeServer, Route
from tests.system.emulator_process import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

PROVIDER: Final = "exhaustion"
SEAMS: Final = Path(__file__).with_name("seams")
LOG_FOLDER_SIZE: Final = "32m"
ACCOUNT: Final = "123456789012"
ROLE_NAME: Final = "exhaustion"
# The only name with which a connection may use http.
NAME: Final = "localhost"
# Where the record and the results of a task are.
STORES: Final = ("variable", "xcom")
# Without these, no task is begun, either.
ALL_TABLES: Final = (*STORES, "task_instance")


class UntrustedServer(FakeServer):
    """A server whose certificate nobody trusts."""

    def routes(self) -> tuple[Route, ...]:
        """Return no routes."""
        return ()


class ExhaustedDeployment(AirflowDeployment):
    """
    Context manager that runs the deployment.

    :param home: an empty folder for logs, settings and marker files.
    :param outage_seconds: how long something fails or is used up in each case.
    :ivar log_folder: the folder of Airflow's logs, which has a size.
    :ivar host_clock: that of the components that `start_with_clock` has started.
    :ivar dns_fails: exists while the name of the endpoint cannot be resolved.
    """

    front: Front

    def __init__(self, home: Path, outage_seconds: float) -> None:
        super().__init__(home, PROVIDER, LOCAL)
        self.outage_seconds = outage_seconds
        self.log_folder = SmallFolder(self.logs, LOG_FOLDER_SIZE)
        self.host_clock = Clock(home / "clock")
        self.dns_fails = home / "dns-fails"
        self._servers = ExitStack()
        self._pki = Pki(home)
        self._lock: Connection | None = None

    def __enter__(self) -> ExhaustedDeployment:
        with ExitStack() as stack:
            stack.enter_context(self.log_folder)
            self._servers = stack
            super().__enter__()
            self._servers = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.unlock()
            super().__exit__(kind, error, trace)
        finally:
            self._servers.close()

    def start_with_clock(self, name: str) -> None:
        """Restart a component, whose time is that of `host_clock`."""
        if name not in (FIRST, SECOND):
            self.airflow.start_component(name, self.host_clock.settings)
            return
        before = self.client.jobs("TriggererJob")
        self.airflow.start_component(name, self.host_clock.settings)
        self._jobs[name] = self._new_job(name, before)

    def lock(self, tables: Sequence[str]) -> None:
        """Let each statement about these tables wait."""
        engine = create_engine(self.database.url, poolclass=NullPool)
        self._lock = engine.connect()
        names = ", ".join(tables)
        self._lock.execute(text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))

    def unlock(self) -> None:
        """End `lock`."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def _connections(self) -> dict[str, Mapping[str, Any]]:
        self.front = Front(self.emulator.endpoint_url)
        self._servers.enter_context(serving(self.front))
        untrusted = UntrustedServer(tls=self._pki.server_context())
        self._servers.enter_context(untrusted)
        urls = {
            "polysync_default": self.front.url,
            "exhaustion_other": self.front.url,
            "exhaustion_named": f"http://{NAME}:{_port(self.front.url)}",
            # For this port, NO_PROXY has no exception.
            "exhaustion_proxied": f"http://{NAME}:{_port(self.emulator.endpoint_url)}",
            "exhaustion_untrusted": untrusted.url,
        }
        connections: dict[str, Mapping[str, Any]] = {
            name: self._connection(url) for name, url in urls.items()
        }
        connections["exhaustion_sts"] = self._sts_connection()
        return connections

    def _connection(self, url: str, **extra: str) -> dict[str, Any]:
        connection = self.emulator.connection
        return {
            **connection,
            "extra": {**connection["extra"], "endpoint_url": url, **extra},
        }

    def _sts_connection(self) -> dict[str, Any]:
        iam = boto3.client(
            "iam",
            region_name=REGION,
            endpoint_url=self.emulator.endpoint_url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )
        iam.create_user(UserName=ROLE_NAME)
        key = iam.create_access_key(UserName=ROLE_NAME)["AccessKey"]
        principal = f"arn:aws:iam::{ACCOUNT}:user/{ROLE_NAME}"
        trust = json.dumps(caller_trust(principal=principal, external_id=None))
        role = iam.create_role(RoleName=ROLE_NAME, AssumeRolePolicyDocument=trust)
        connection = self._connection(
            self.front.url,
            auth_method="assume_role",
            sts_endpoint_url=self.front.url,
            role_arn=role["Role"]["Arn"],
        )
        return connection | {
            "login": key["AccessKeyId"],
            "password": key["SecretAccessKey"],
        }

    def _more_settings(self) -> dict[str, str]:
        port = _port(self.front.url)
        return {
            "POLYSYNC_DNS_FAILS_WHILE": str(self.dns_fails),
            "POLYSYNC_DNS_FAILS_FOR": f"{NAME}:{port}",
            "HTTP_PROXY": self.front.url,
            "NO_PROXY": f"{HOST},{NAME}:{port}",
            PYTHONPATH: os.pathsep.join([str(SEAMS), str(REPOSITORY)]),
        }


def _port(url: str) -> str:
    return url.rpartition(":")[2]
