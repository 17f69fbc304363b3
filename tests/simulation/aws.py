"""
AWS: the emulator's SageMaker without HTTP, which the hooks call in place of a boto3
client. It notes whose executions run when, and who stops them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.parsers import JSONParser

from sagemaker_emulator import Limits
from sagemaker_emulator.builders import CALLER
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.engine.scenarios import parse
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.api import SageMaker
from sagemaker_emulator.sagemaker.store import ACCOUNT
from sagemaker_emulator.sagemaker.validation import service_model
from tests.simulation import kernel as kernels
from tests.simulation.journal import Journal, Owner

REGION: Final = "us-east-1"
# The deployment, in place of one of Airflow's, of what users do in AWS.
CONSOLE: Final = "console"
# Of one instance: see HOURLY_PRICES in installed.py.
PRICE_PER_SECOND: Final = 1.0
# A call is at least this long on its way, in each direction.
_WAY_SECONDS: Final = 0.01
_LAG_SECONDS: Final = 4.0
_READ_TIMEOUT_SECONDS: Final = 20.0
# By default, botocore looks up the time zone of the host for each time.
_PARSER: Final[Any] = JSONParser(partial(datetime.fromtimestamp, tz=UTC))
_BEGINNING: Final = ("StartPipelineExecution", "RetryPipelineExecution")


# What refuses a request: the code, the text and the HTTP status.
FAULTS: Final = {
    "throttle": ("ThrottlingException", "Rate exceeded", 400),
    "error": ("InternalFailure", "try again", 500),
    "conflict": ("ConflictException", "Another change is in progress", 409),
    "limit": ("ResourceLimitExceeded", "The account-level limit is reached", 400),
    "refused": ("ValidationException", "The request is not valid", 400),
    "denied": ("AccessDeniedException", "not authorized", 400),
}


class _NoServices:
    """The other services: what steps write goes nowhere."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in ("model_packages", "model_package_events"):
            return lambda *_, **__: []
        return lambda *_, **__: None


@dataclass
class Attempt:
    """A start or a resume of an execution, and when it ran; perhaps it runs yet."""

    owner: Owner
    began_at: float
    arn: str = ""
    ended_at: float = math.inf
    status: str = "Executing"


class Call(NamedTuple):
    """
    A request that changes something.

    :param answer: ``ok``, ``lost``, or the code of the error.
    :param token: its client token.
    """

    arn: str
    process: str
    deployment: str
    answer: str
    token: str

    @property
    def is_accepted(self) -> bool:
        """Whether AWS has done it, also if the response was lost."""
        return self.answer in ("ok", "lost")

    def __str__(self) -> str:
        return f"{self.arn[-12:]} by {self.process}: {self.answer}"


@dataclass
class Fault:
    """
    What some operations meet for a while.

    :param kind: one of ``FAULTS``, or ``lost``: the response.
    :param operations: a pattern of their names.
    :param share: how many of the requests it meets.
    """

    begin: float
    end: float
    kind: str
    operations: str
    share: float = 1.0


class Aws:
    """
    An account.

    :param definition: that of the pipeline.
    :param scenario: how its executions go, as the emulator's control API takes it.
    """

    def __init__(
        self, journal: Journal, definition: str, scenario: dict[str, Any], seed: str
    ) -> None:
        clock: Any = SimpleNamespace(now=lambda: kernels.KERNEL.now, speed=None)
        services: Any = _NoServices()
        limits = Limits(max_executions=10_000)
        self._journal = journal
        self._sagemaker = SageMaker(clock, services, seed, limits)
        self.faults: list[Fault] = []
        self.attempts: list[Attempt] = []
        self.owners: dict[str, Owner] = {}
        self._running: dict[str, Attempt] = {}
        self._shown: dict[str, tuple[float, Any]] = {}
        self._starting: Any = None
        request = {
            "PipelineName": "pipe",
            "PipelineDefinition": definition,
            "ClientRequestToken": "x" * 32,
            "RoleArn": "arn:aws:iam::123456789012:role/SageMakerRole",
        }
        self._sagemaker.call("CreatePipeline", REGION, request)
        self._sagemaker.set_scenario(None, parse(scenario))

    # ---- what the engine does

    def began(self, engine: Execution, at: float) -> None:
        """Note that an execution begins, or is resumed."""
        attempt = Attempt(self._starting, at)
        self.attempts.append(attempt)
        self._running[engine.seed] = attempt

    def finished(self, engine: Execution, at: float) -> None:
        """Note that an execution has ended."""
        if engine.seed in self._running:
            attempt = self._running.pop(engine.seed)
            attempt.ended_at = at
            attempt.status = engine.status

    @property
    def is_idle(self) -> bool:
        """Whether no execution runs."""
        for execution in self.executions():
            execution.engine.advance(kernels.KERNEL.now)
        return not self._running

    def executions(self) -> list[Any]:
        """Return all executions, as the emulator keeps them."""
        return [
            execution
            for region in self._sagemaker.regions.values()
            for execution in region.executions()
        ]

    def cost_of(self, arn: str, since: float, until: float) -> float:
        """
        Return what the jobs of an execution cost between two times. AWS bills no job
        before its container runs.
        """
        execution = next(each for each in self.executions() if each.arn == arn)
        seconds = 0.0
        for run in execution.engine.history:
            if run.reused_from:
                continue
            times = [(each.executing_at, each.ended_at) for each in run.attempts]
            for begin, ended_at in times or [(run.started_at, run.ended_at)]:
                end = min(ended_at or until, until)
                seconds += max(0.0, end - max(begin, since))
        return seconds * PRICE_PER_SECOND

    # ---- requests

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the response, as a boto3 client does."""
        kernel = kernels.KERNEL
        kernel.request("sent", "aws", operation)
        kernel.sleep(_WAY_SECONDS + kernel.random.random() * 0.2)
        fault = self._fault_of(operation)
        try:
            response = self._respond(operation, request, fault)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            arn = request.get("PipelineExecutionArn", "")
            self._note(operation, arn, code, request)
            raise
        finally:
            kernel.request("answered", "aws", operation)
        if fault == "lost":
            kernel.sleep(_READ_TIMEOUT_SECONDS)
            raise ReadTimeoutError(endpoint_url="https://sagemaker")
        kernel.sleep(_WAY_SECONDS + kernel.random.random() * 0.2)
        kernel.request("received", operation)
        shape = service_model().operation_model(operation).output_shape
        if shape is None:
            return {}
        parsed: dict[str, Any] = _PARSER._parse_shape(shape, response)
        return parsed

    def _fault_of(self, operation: str) -> str | None:
        kernel = kernels.KERNEL
        for fault in self.faults:
            is_now = fault.begin <= kernel.now < fault.end
            is_meant = is_now and re.fullmatch(fault.operations, operation)
            if is_meant and kernel.random.random() < fault.share:
                return fault.kind
        return None

    def _respond(
        self, operation: str, request: dict[str, Any], fault: str | None
    ) -> Any:
        if fault in FAULTS:
            raise _error(*FAULTS[fault], operation)
        body = dict(request)
        for name, value in request.items():
            if isinstance(value, datetime):
                body[name] = value.timestamp()
        if operation == "CreatePipeline":
            # As botocore does.
            token = f"{kernels.KERNEL.random.getrandbits(128):032x}"
            body.setdefault("ClientRequestToken", token)
        arn = request.get("PipelineExecutionArn", "")
        process = kernels.KERNEL.process
        # Whoever resumes or adopts it, an execution is its first starter's.
        self._starting = self.owners.get(arn, process.owner)
        try:
            response, _ = self._sagemaker.call(operation, REGION, body)
        except ApiError as error:
            raise _error(error.code, error.message, error.status, operation) from None
        if operation == "StartPipelineExecution":
            arn = response["PipelineExecutionArn"]
            self.owners.setdefault(arn, process.owner)
        if operation in _BEGINNING:
            for attempt in self.attempts:
                attempt.arn = attempt.arn or arn
        self._note(operation, arn, fault or "ok", request)
        if operation == "DescribePipelineExecution":
            return self._lagging(arn, response)
        return response

    def _note(
        self, operation: str, arn: str, answer: str, request: dict[str, Any]
    ) -> None:
        if operation.startswith(("Describe", "List", "Create", "Update")):
            # They change no execution.
            return
        process = kernels.KERNEL.process
        token = request.get("ClientRequestToken", "")
        call = Call(arn, process.name, process.deployment.name, answer, token)
        self._journal.note("aws", operation, self.owners.get(arn), call)

    def _lagging(self, arn: str, response: Any) -> Any:
        """Return what was so up to some seconds ago, now and then."""
        kernel = kernels.KERNEL
        at, before = self._shown.get(arn, (0.0, None))
        is_new = before is not None and kernel.now - at < _LAG_SECONDS
        if is_new and kernel.random.random() < 0.3:
            return before
        self._shown[arn] = (kernel.now, response)
        return response


def _error(code: str, message: str, status: int, operation: str) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


class Client:
    """What the hooks have in place of boto3's client."""

    meta = SimpleNamespace(
        partition="aws",
        region_name=REGION,
        service_model=service_model(),
        config=SimpleNamespace(max_pool_connections=8),
    )

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        operation = "".join(part.capitalize() for part in name.split("_"))
        return lambda **request: kernels.KERNEL.aws.call(operation, request)


class OtherService(Client):
    """
    A client of another service than SageMaker. The role may use none but STS, which is
    never denied.
    """

    def get_caller_identity(self) -> dict[str, Any]:
        """Tell whose executions these are."""
        return {"Account": ACCOUNT, "Arn": CALLER}

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        def refuse(**_: Any) -> dict[str, Any]:
            raise _error(*FAULTS["denied"], name)

        return refuse


def observe_engine() -> None:
    """Let the emulator's engine tell when executions begin and end."""

    def after(name: str, note: Callable[..., None]) -> None:
        real = getattr(Execution, name)

        def observed(self: Any, *arguments: Any) -> None:
            real(self, *arguments)
            note(kernels.KERNEL.aws, self, *arguments)

        setattr(Execution, name, observed)

    after("__post_init__", lambda aws, each: aws.began(each, each.created_at))
    after("retry", lambda aws, each, now, *_: aws.began(each, now))
    after("_finish", Aws.finished)
