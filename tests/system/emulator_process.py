"""Runs the emulator in a process of its own, with the command that a user runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import boto3

from sagemaker_emulator.server.client import ControlClient
from tests.system.process.sessions import (
    ProcessError,
    ProcessSession,
    end_all,
    wait_until,
)

REGION: Final = "us-east-1"
START_TIMEOUT: Final = 60.0
ACCESS_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
# the example key of the AWS documentation
SECRET_ACCESS_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


class EmulatorProcess:
    """
    Context manager that runs ``python -m sagemaker_emulator``.

    :param home: the folder for its log.
    :param speed: emulated seconds per real second.
    :param definitions: a folder with pipeline definitions.
    :param issuer_ca: a file with the CA certificates to trust for the issuers of web
        identity tokens.
    """

    def __init__(
        self,
        home: Path,
        *,
        speed: float,
        definitions: Path,
        issuer_ca: Path | None = None,
    ) -> None:
        self.endpoint_url = ""
        self.speed = speed
        self._log = home / "emulator.log"
        self._options: Sequence[str] = (
            *("--port", "0", "--region", REGION),
            *("--speed", f"{speed:g}", "--definitions", str(definitions)),
            *("--max-steps", "1000", "--max-executions", "100000"),
            *("--max-pipelines", "100000"),
            *(("--issuer-ca", str(issuer_ca)) if issuer_ca else ()),
        )
        self._process: ProcessSession | None = None

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to the emulator, in Airflow's JSON format."""
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
        """
        A client of the emulator's control API, for scenarios, faults and the call log.
        """
        return ControlClient(self.endpoint_url)

    def client(self) -> Any:
        """Return a boto3 client of the emulated SageMaker."""
        return boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
        )

    def start(self) -> None:
        """
        Start the emulator, and wait until it prints its address.

        :raises ProcessError: if it ends, or does not print its address in time.
        """
        command = [sys.executable, "-m", "sagemaker_emulator", *self._options]
        self._process = ProcessSession(
            "the emulator", command, env=os.environ, log=self._log
        )
        if not wait_until(self._has_address, timeout=START_TIMEOUT):
            raise ProcessError(
                f"The emulator did not print its address in {START_TIMEOUT:.0f} s.\n{self._process.log_tail()}"
            )

    def stop(self) -> None:
        """End the emulator."""
        if self._process:
            end_all([self._process])

    def __enter__(self) -> EmulatorProcess:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _has_address(self) -> bool:
        assert self._process
        self._process.check_alive()
        match = re.search(r"SageMaker emulator on (\S+)", self._log.read_text())
        if match:
            self.endpoint_url = match[1]
        return bool(match)
