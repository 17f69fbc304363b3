"""Owns an emulator in a process of its own, as a person starts one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3

from polysync_airflow.emulator.server.client import ControlClient
from tests.system.processes import OwnedProcess, ProcessError, end_all, wait_until

REGION: Final = "us-east-1"
START_TIMEOUT: Final = 60.0
ACCESS_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET_ACCESS_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS's own example


class LocalEmulator:
    """
    ``python -m polysync_airflow.emulator`` while the context is open.

    :param home: a folder for its log.
    :param speed: emulated seconds per real second.
    :param definitions: a folder of pipeline definitions.
    :param issuer_ca: a file of authorities, to be trusted for the issuers of web identity tokens.
    """

    def __init__(self, home: Path, *, speed: float, definitions: Path, issuer_ca: Path | None = None) -> None:
        self.endpoint_url = ""
        self.speed = speed
        self._log = home / "emulator.log"
        self._options: Sequence[str] = (
            *("--port", "0", "--region", REGION),
            *("--speed", f"{speed:g}", "--definitions", str(definitions)),
            *(("--issuer-ca", str(issuer_ca)) if issuer_ca else ()),
        )
        self._process: OwnedProcess | None = None

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection that leads here, in its JSON form."""
        return {
            "conn_type": "polysync_sagemaker",
            "login": ACCESS_KEY_ID,
            "password": SECRET_ACCESS_KEY,
            "extra": {
                "auth_method": "access_key",
                "region_name": REGION,
                "endpoint_url": self.endpoint_url,
            },
        }

    @property
    def control(self) -> ControlClient:
        """Its control API: scenarios, faults, the call log."""
        return ControlClient(self.endpoint_url)

    def client(self) -> Any:
        """Return a boto3 client that leads here."""
        return boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )

    def start(self) -> None:
        """
        Start it and wait until it tells its address.

        :raises ProcessError: if it does not.
        """
        command = [sys.executable, "-m", "polysync_airflow.emulator", *self._options]
        self._process = OwnedProcess("the emulator", command, env=os.environ, log=self._log)
        if not wait_until(self._told_address, timeout=START_TIMEOUT):
            raise ProcessError(
                f"The emulator told no address in {START_TIMEOUT:.0f} s.\n{self._process.log_tail()}"
            )

    def stop(self) -> None:
        """End it."""
        if self._process:
            end_all([self._process])

    def __enter__(self) -> LocalEmulator:
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

    def _told_address(self) -> bool:
        assert self._process
        self._process.check_alive()
        told = re.search(r"SageMaker emulator on (\S+)", self._log.read_text())
        if told:
            self.endpoint_url = told[1]
        return bool(told)
