"""
Runs the emulator: combines its parts into one HTTP server, by default on the loopback
interface.

::

    with EmulatorServer(clock=VirtualClock()) as server:
        client = boto3.client(
            "sagemaker", endpoint_url=server.endpoint_url, region_name="us-east-1", ...
        )
        scenario = {"steps": {"Train": {"fail": {"reason": "No data"}}}}
        server.control.put_scenario(scenario, pipeline="Abalone")
        server.control.advance(8 * 3600)
"""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Collection
from pathlib import Path
from threading import Thread
from typing import Any, Final

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from sagemaker_emulator.engine.clock import Clock, RealClock
from sagemaker_emulator.engine.definition import DefinitionError
from sagemaker_emulator.engine.scenarios import Scenario, parse
from sagemaker_emulator.limits import DEFAULT_LIMITS, Limits
from sagemaker_emulator.sagemaker.api import SageMaker
from sagemaker_emulator.sagemaker.definition_checks.check import checked
from sagemaker_emulator.sagemaker.role_calls import Authorize
from sagemaker_emulator.sagemaker.store import partition
from sagemaker_emulator.server import bodies
from sagemaker_emulator.server.addresses import LOOPBACK, check_bind
from sagemaker_emulator.server.browser_guard import BrowserGuard
from sagemaker_emulator.server.call_log import CallLog
from sagemaker_emulator.server.client import ControlClient
from sagemaker_emulator.server.control import ControlApi
from sagemaker_emulator.server.faults import Faults
from sagemaker_emulator.server.moto_app import Moto
from sagemaker_emulator.server.router import Router
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.authorization import refusal_of_role
from sagemaker_emulator.sign_in.issuers import Issuers
from sagemaker_emulator.sign_in.sessions import Sessions
from sagemaker_emulator.sign_in.settings import SignInSettings
from sagemaker_emulator.sign_in.sts import Sts

_ALL_ADDRESSES: Final = "0.0.0.0"  # noqa: S104 # compared, not bound
# The example in AWS's documentation.
ACCESS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
_BACKLOG = 128
# How soon the server notices that it has to stop. The default is half a second, in each
# test with a server.
_SHUTDOWN_POLL_SECONDS = 0.05
_NAME_LENGTH = 256
# The folder, in that of the definitions, with the contents of property files.
_FILES = "property_files"


class _Handler(MotoRequestHandler):
    """
    A request handler without an access log, whose responses have the emulated time.
    """

    clock: Clock
    timeout = bodies.WAIT_SECONDS

    def setup(self) -> None:
        """Limit the time of the whole request, too."""
        super().setup()
        self.rfile = io.BufferedReader(bodies.TimedInput(self.rfile.detach()))

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return the header ``Date``."""
        if timestamp is None:
            timestamp = self.clock.now()
        return super().date_time_string(timestamp)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


class EmulatorServer:
    """
    Context manager that runs an emulator in threads of this process.

    Run only one emulator at a time in a process, because moto keeps its state in the
    process.

    :param port: the TCP port; 0 selects a free port.
    :param speed: emulated seconds per real second, if ``clock`` is None.
    :param clock: the source of the emulated time, such as a `VirtualClock`; None for a
        `RealClock`.
    :param definitions: a folder; one pipeline is created from each ``*.json`` file in
        it.
    :param region: the region of these pipelines.
    :param seed: the text from which all ids are derived.
    :param issuer_ca: a PEM file with CA certificates to trust, in addition to those of
        the host, when the emulator requests the keys of the issuer of a web identity
        token; see `sign_in.issuers`.
    :param enforce_iam: enforce the policies in IAM on operations and steps; see
        `sign_in.authorization`.
    :param allowed_hosts: names by which clients in other containers reach the emulator,
        such as that of its service in a compose file. Requests with other names than
        these and this machine's are refused.
    :param limits: the quotas of steps and executions, and whether definitions that AWS
        would refuse are accepted.
    :param bind: the IPv4 address to listen on. Whoever reaches it can use the emulator,
        which has no authentication. An address that is not one of the loopback
        interface needs ``allowed_hosts``.
    :raises AddressError: if ``bind`` is not an address, or needs ``allowed_hosts``; or
        if one of ``allowed_hosts`` is not a host name.
    :raises DefinitionError: if ``definitions`` is not a folder, or if a file in it is
        not a valid pipeline definition.
    :raises OSError: if the port is in use, or if ``issuer_ca`` cannot be loaded.
    """

    def __init__(  # noqa: PLR0913 (for authors of tests)
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
        allowed_hosts: Collection[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        bind: str = LOOPBACK,
    ) -> None:
        check_bind(bind, allowed_hosts)
        if bind == _ALL_ADDRESSES:
            # It is no name of this machine, and browsers connect to it all the same.
            own_address = LOOPBACK
            guard = BrowserGuard(allowed_hosts)
        else:
            own_address = bind
            guard = BrowserGuard([*allowed_hosts, bind])
        self._definitions: dict[str, str] = {}
        self._files: dict[str, Scenario] = {}
        if definitions:
            self._definitions = read_definitions(definitions, limits)
            self._files = _read_files(definitions / _FILES)
        self._region = region
        self.clock = clock or RealClock(speed)
        self.moto = Moto()
        self.sagemaker = SageMaker(self.clock, self.moto, seed, limits)
        self.faults = Faults()
        self.calls = CallLog()
        self.sign_in = SignInSettings(enforce_iam)
        self.sagemaker.authorizer = self._authorizer
        self._issuers = Issuers(issuer_ca)
        self._sessions = Sessions(self.clock, self.sign_in)
        control_api = ControlApi(
            self.sagemaker, self.faults, self.calls, self.sign_in, self._reset
        )
        sts = Sts(self._sessions, self._issuers, self.sign_in)
        router = Router(
            self.sagemaker, sts, self.moto, control_api, self.faults, self.calls, guard
        )
        # werkzeug ends the process if the port is in use. A socket that this module
        # creates raises OSError instead.
        handler = type("Handler", (_Handler,), {"clock": self.clock})
        with socket.create_server((bind, port), backlog=_BACKLOG) as listener:
            self._server = make_server(
                bind,
                port,
                router,
                threaded=True,
                request_handler=handler,
                fd=listener.fileno(),
            )
        self._thread = Thread(
            target=self._server.serve_forever,
            args=(_SHUTDOWN_POLL_SECONDS,),
            name="emulator",
            daemon=True,
        )
        self.port: int = self._server.socket.getsockname()[1]
        self.endpoint_url = f"http://{own_address}:{self.port}"
        self.control = ControlClient(self.endpoint_url)
        self._reset()

    def _authorizer(self) -> Authorize | None:
        return refusal_of_role if self.sign_in.values.enforce_iam else None

    @property
    def pipelines(self) -> dict[str, list[str]]:
        """The names of all pipelines, by region."""
        return self.sagemaker.pipeline_names()

    def connection(self) -> str:
        """
        Return an Airflow connection to the emulator as JSON, for a variable
        ``AIRFLOW_CONN_...``.

        The emulator accepts any access key, as long as ``enforce_iam`` is off. The
        addresses of SageMaker and STS are the same.
        """
        extra = {
            "auth_method": "access_key",
            "region_name": self._region,
            "endpoint_url": self.endpoint_url,
            "sts_endpoint_url": self.endpoint_url,
        }
        return json.dumps(
            {
                "conn_type": "polysync_sagemaker",
                "login": ACCESS_KEY_ID,
                "password": "emulated-secret-key",
                "extra": extra,
            }
        )

    def start(self) -> None:
        """Start the server in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the server and close its port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> EmulatorServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _reset(self) -> None:
        self.sagemaker.reset()
        self.moto.reset()
        iam.create_default_role()
        self._sessions.reset()
        self._issuers.reset()
        for name, text in self._definitions.items():
            request: dict[str, Any] = {
                "PipelineName": name,
                "PipelineDefinition": text,
                "ClientRequestToken": f"definitions-folder-{name}".ljust(32, "-")[:128],
                "RoleArn": iam.default_role_arn(partition(self._region)),
            }
            self.sagemaker.call("CreatePipeline", self._region, request)
        self.sagemaker.files.update(self._files)


def read_definitions(folder: Path, limits: Limits = DEFAULT_LIMITS) -> dict[str, str]:
    """
    Read the pipeline definitions in a folder.

    :param folder: the folder; only its ``*.json`` files are read.
    :param limits: what is refused.
    :return: the text of each definition, by pipeline name.
    :raises DefinitionError: if a file is not a valid pipeline definition, or if two
        files have the same pipeline name; the message names the file.
    """
    if not folder.is_dir():
        raise DefinitionError(f"{folder} is not a folder")
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*.json")):
        name = pipeline_name(file.stem)
        try:
            text = file.read_text(encoding="utf-8")
            checked(text, limits.max_steps, limits.lenient)
        except (DefinitionError, UnicodeDecodeError) as error:
            reason = getattr(error, "places", error)
            raise DefinitionError(
                f"{file}: not a pipeline definition: {reason}"
            ) from error
        if not name or name in texts:
            raise DefinitionError(
                f"{file}: the pipeline name {name!r} made from the file name is empty"
                " or not unique"
            )
        texts[name] = text
    return texts


def _read_files(folder: Path) -> dict[str, Scenario]:
    """
    Read the contents of property files, by step and file, that the pipelines of a
    folder have if no scenario sets any.
    """
    scenarios: dict[str, Scenario] = {}
    for file in folder.glob("*.json"):
        try:
            contents = json.loads(file.read_text(encoding="utf-8"))
            steps = {step: {"property_files": contents[step]} for step in contents}
            scenarios[pipeline_name(file.stem).lower()] = parse({"steps": steps})
        except (ValueError, TypeError) as error:
            raise DefinitionError(
                f"{file}: not the contents of property files: {error}"
            ) from error
    return scenarios


def pipeline_name(stem: str) -> str:
    """
    Return a valid pipeline name for a file name, such as ``churn-tuning`` for
    ``churn_tuning``.
    """
    return re.sub(r"[^a-zA-Z0-9]+", "-", stem)[:_NAME_LENGTH].strip("-")
