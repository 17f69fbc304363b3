"""A running emulator: all its parts on one port of the loopback interface.

::

    with EmulatorServer(clock=VirtualClock()) as server:
        client = boto3.client("sagemaker", endpoint_url=server.endpoint_url, region_name="us-east-1", ...)
        server.control.put_scenario({"steps": {"Train": {"fail": {"reason": "No data"}}}}, pipeline="Abalone")
        server.control.advance(8 * 3600)
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from polysync_airflow.emulator.engine.clock import Clock, RealClock
from polysync_airflow.emulator.engine.definition import DefinitionError, parse
from polysync_airflow.emulator.sagemaker.api import SageMaker
from polysync_airflow.emulator.sagemaker.store import ACCOUNT
from polysync_airflow.emulator.server.call_log import CallLog
from polysync_airflow.emulator.server.client import ControlClient
from polysync_airflow.emulator.server.control import Control
from polysync_airflow.emulator.server.faults import Faults
from polysync_airflow.emulator.server.moto_app import Moto
from polysync_airflow.emulator.server.router import Front
from polysync_airflow.emulator.sign_in.issuers import Issuers
from polysync_airflow.emulator.sign_in.sessions import Sessions
from polysync_airflow.emulator.sign_in.settings import SignIn
from polysync_airflow.emulator.sign_in.sts import Sts

HOST = "127.0.0.1"
_BACKLOG = 128
_NAME_LENGTH = 256


class _QuietHandler(MotoRequestHandler):
    """The call log replaces the access log."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


class EmulatorServer:
    """An emulator that runs in threads of this process while the context is open.

    Only one may run per process at a time, since moto keeps its state in the process.

    :param port: TCP port on 127.0.0.1; 0 takes a free one.
    :param speed: emulated seconds per real second, if no ``clock`` is given.
    :param clock: where emulated time comes from, such as a `VirtualClock`.
    :param definitions: a folder; each ``*.json`` file in it becomes a pipeline.
    :param region: the region those pipelines are created in.
    :param seed: from which all ids are derived.
    :param issuer_ca: a PEM file with certificate authorities to trust, besides the host's, when the keys of a
        web identity token's issuer are fetched; see `issuers`.
    :param enforce_iam: let IAM's policies decide who may do what with pipelines; see `access`.
    :raises DefinitionError: if a file of ``definitions`` is not a pipeline definition.
    :raises OSError: if the port is taken or ``issuer_ca`` cannot be used.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        speed: float = 1.0,
        clock: Clock | None = None,
        definitions: Path | None = None,
        region: str = "us-east-1",
        seed: str = "emulator",
        issuer_ca: Path | None = None,
        enforce_iam: bool = False,
    ) -> None:
        self._definitions = read_definitions(definitions) if definitions else {}
        self._region = region
        self.clock = clock or RealClock(speed)
        self.moto = Moto()
        self.sagemaker = SageMaker(self.clock, self.moto.read_object, seed)
        self.faults, self.calls = Faults(), CallLog()
        self.sign_in = SignIn(enforce_iam)
        self._issuers, self._sessions = Issuers(issuer_ca), Sessions(self.clock, self.sign_in)
        controls = Control(self.sagemaker, self.faults, self.calls, self.sign_in, self._reset)
        sts = Sts(self._sessions, self._issuers, self.sign_in)
        front = Front(self.sagemaker, sts, self.moto, controls, self.faults, self.calls)
        # werkzeug would end the process if the port were taken; a socket of our own raises OSError.
        with socket.create_server((HOST, port), backlog=_BACKLOG) as listener:
            self._server = make_server(
                HOST, port, front, threaded=True, request_handler=_QuietHandler, fd=listener.fileno()
            )
        self._thread = Thread(target=self._server.serve_forever, name="emulator", daemon=True)
        self.port: int = self._server.socket.getsockname()[1]
        self.endpoint_url = f"http://{HOST}:{self.port}"
        self.control = ControlClient(self.endpoint_url)
        self._reset()

    @property
    def pipelines(self) -> dict[str, list[str]]:
        """Names of all pipelines, by region."""
        return self.sagemaker.pipeline_names()

    def start(self) -> None:
        """Begin to answer, in threads of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and give the port back."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> EmulatorServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _reset(self) -> None:
        self.sagemaker.reset()
        self.moto.reset()
        self._sessions.reset()
        self._issuers.reset()
        for name, text in self._definitions.items():
            request: dict[str, Any] = {
                "PipelineName": name,
                "PipelineDefinition": text,
                "ClientRequestToken": f"definitions-folder-{name}".ljust(32, "-")[:128],
                "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/SageMakerRole",
            }
            self.sagemaker.call("CreatePipeline", self._region, request)


def read_definitions(folder: Path) -> dict[str, str]:
    """Read the pipeline definitions of a folder.

    :returns: the text of each, by pipeline name.
    :raises DefinitionError: naming the file, if one is no definition or two have the same pipeline name.
    """
    if not folder.is_dir():
        raise DefinitionError(f"{folder} is not a folder")
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.json")):
        name = pipeline_name(file.stem)
        try:
            text = file.read_text(encoding="utf-8")
            parse(text)
        except (DefinitionError, UnicodeDecodeError) as error:
            raise DefinitionError(f"{file}: not a pipeline definition: {error}") from error
        if not name or name in found:
            raise DefinitionError(f"{file}: its name makes no unique pipeline name ({name!r})")
        found[name] = text
    return found


def pipeline_name(stem: str) -> str:
    """Return the legal pipeline name nearest to a file name: ``churn-tuning`` for ``churn_tuning``."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", stem)[:_NAME_LENGTH].strip("-")
