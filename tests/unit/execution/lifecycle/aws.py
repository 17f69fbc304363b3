"""The operations of SageMaker that a task uses, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    SageMakerApiError,
)
from polysync_airflow.execution.lifecycle.machine import MAX_TIMES_UNKNOWN
from polysync_airflow.execution.models import ExecutionDescription, StartRequest
from polysync_airflow.states import has_ended

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/e"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Weather:
    """
    How likely AWS answers in an unusual way.

    :param failed: it fails before it has processed a request.
    :param unproven: it has processed a request, and its response is lost.
    :param refused: it refuses a new start, each time.
    :param refused_resumes: it refuses a new resume, each time.
    :param quota: it refuses a start or a resume, this time.
    :param capacity: an execution that has failed lacked capacity.
    :param conflict: it answers a start with a conflict, whether it accepts it or not.
    :param unknown: it does not know an execution for some time.
    :param gone: it does not know an execution any more.
    """

    failed: float = 0.03
    lost: float = 0.03
    refused: float = 0.03
    refused_resumes: float = 0.03
    quota: float = 0.02
    capacity: float = 0.1
    conflict: float = 0.01
    unknown: float = 0.02
    gone: float = 0.005


@dataclass
class Execution:
    """
    An execution in AWS.

    :param created_at: when it was started.
    :param unknown: how many more times AWS answers that it does not know it.
    :param lagged_at: when AWS did not know it for some time.
    """

    arn: str
    created_at: datetime = NOW
    status: str = "Executing"
    unknown: float = 0
    lagged_at: datetime | None = None
    tokens: set[str] = field(default_factory=set)
    request: StartRequest | None = None

    @property
    def has_failed(self) -> bool:
        """Whether AWS would resume it."""
        return self.status in ("Failed", "CompletedWithFailures")

    @property
    def stops(self) -> int:
        """How many stops were requested."""
        return sum(token.startswith("stop ") for token in self.tokens)


class Aws:
    """The operations of SageMaker that change or describe executions."""

    def __init__(self, random: Random, weather: Weather) -> None:
        self._random = random
        self.weather = weather
        self.now = NOW
        self.executions: list[Execution] = []
        # The tokens of starts that it has answered with a conflict without a reason.
        self.conflicts: set[str] = set()
        # What AWS has refused once, it refuses each time.
        self._refused: set[str] = set()

    @property
    def running(self) -> list[Execution]:
        """The executions that have not ended."""
        return [each for each in self.executions if not has_ended(each.status)]

    def start(self, request: StartRequest) -> str:
        """
        Start an execution, or return that of the token; refuse a token with other
        parameters.
        """
        token = request.client_request_token
        known = self.started_with(token)
        if known:
            if known.request != request:
                raise api_error(CONFLICT, transient=True)
            return known.arn
        if self._happens(self.weather.quota):
            raise api_error("ResourceLimitExceeded")
        self._refuse(token, VALIDATION, self.weather.refused)
        arn = f"{ARN}{len(self.executions)}"
        new = Execution(arn, self.now, tokens={token}, request=request)
        self.executions.append(new)
        return arn

    def started_with(self, token: str) -> Execution | None:
        """Return the execution of the token of a start; None if it is not known."""
        for each in self.executions:
            if token in each.tokens:
                return each
        return None

    def pass_time(self) -> None:
        """Let so much time pass that an execution does not count as new any more."""
        self.now += timedelta(hours=1)

    def forget_tokens(self) -> None:
        """Forget the tokens of all starts."""
        for each in self.executions:
            each.tokens -= (
                {each.request.client_request_token} if each.request else set()
            )

    def list(self) -> list[ExecutionDescription]:
        """List the executions, the newest first."""
        return [self.entry(each) for each in reversed(self.executions)]

    @staticmethod
    def entry(execution: Execution) -> ExecutionDescription:
        """Return the entry of an execution in the list."""
        request = execution.request
        return ExecutionDescription.model_validate(
            {
                "PipelineExecutionArn": execution.arn,
                "PipelineExecutionStatus": execution.status,
                "PipelineExecutionDisplayName": request
                and request.execution_display_name,
                "CreationTime": execution.created_at,
            }
        )

    def describe(self, arn: str) -> ExecutionDescription:
        """Describe an execution, if AWS knows it (yet)."""
        execution = self.find(arn)
        has_lagged = execution.lagged_at == self.now
        if not has_lagged and self._happens(self.weather.unknown):
            # Not longer than a try asks again.
            execution.unknown = self._random.randint(1, MAX_TIMES_UNKNOWN)
            execution.lagged_at = self.now
        if self._happens(self.weather.gone):
            execution.unknown = inf
        if execution.unknown:
            execution.unknown -= 1
            raise api_error(RESOURCE_NOT_FOUND)
        return self.entry(execution)

    def end_gone(self) -> None:
        """
        End the executions that AWS does not know any more.

        Known limit: after a clear of their task, as its error says, a new one starts
        beside them.
        """
        for each in self.running:
            if each.unknown == inf:
                each.status = "Stopped"

    def find(self, arn: str) -> Execution:
        """Return an execution."""
        return next(each for each in self.executions if each.arn == arn)

    def resume(self, arn: str, token: str) -> None:
        """Resume a failed execution; do nothing if the token is known."""
        execution = self.find(arn)
        if token in execution.tokens:
            return
        if not execution.has_failed:
            raise api_error(VALIDATION)
        if self._happens(self.weather.quota):
            raise api_error("ResourceLimitExceeded")
        self._refuse(token, "AccessDeniedException", self.weather.refused_resumes)
        execution.tokens.add(token)
        execution.status = "Executing"

    def stop(self, arn: str, attempt: int) -> bool:
        """
        Stop an execution that runs; a token of an earlier attempt does nothing. Return
        False if AWS fails.
        """
        execution = self.find(arn)
        token = f"stop {arn} {attempt}"
        if self._happens(0.05):
            return False
        if token not in execution.tokens and execution.status == "Executing":
            execution.tokens.add(token)
            execution.status = "Stopping"
        return True

    def _refuse(self, token: str, code: str, likelihood: float) -> None:
        """Refuse a new token, sometimes."""
        if token in self._refused or self._happens(likelihood):
            self._refused.add(token)
            raise api_error(code)

    def _happens(self, likelihood: float) -> bool:
        return self._random.random() < likelihood

    @property
    def stops(self) -> int:
        """How many stops of executions were requested."""
        return sum(each.stops for each in self.executions)

    def progress(self, execution: Execution) -> None:
        """Let an execution that runs go on."""
        ends = ["Succeeded", "Failed", "CompletedWithFailures"]
        following = ["Stopped", "Stopped", *ends]
        if execution.status == "Executing":
            following = [*ends, "Failed"]
        execution.status = self._random.choice(following)


def api_error(code: str, *, transient: bool = False) -> SageMakerApiError:
    """Return an error of AWS's."""
    return SageMakerApiError(
        "no",
        error_code=code,
        operation="x",
        permanent=not transient,
        transient=transient,
    )
