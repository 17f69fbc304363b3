"""The operations of SageMaker that a task uses, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from polysync_airflow.exceptions import CONFLICT, SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription, StartRequest
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.states import has_ended

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/e"


@dataclass
class Execution:
    """An execution in AWS."""

    arn: str
    status: str = "Executing"
    tokens: set[str] = field(default_factory=set)
    request: StartRequest | None = None

    @property
    def stops(self) -> int:
        """How many stops were requested."""
        return sum(token.startswith("stop ") for token in self.tokens)


class Aws:
    """The operations of SageMaker that change or describe executions."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.executions: list[Execution] = []
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
        for each in self.executions:
            if token in each.tokens:
                if each.request != request:
                    raise api_error(CONFLICT, transient=True)
                return each.arn
        self._refuse(token, "ValidationException")
        self.executions.append(
            Execution(f"{ARN}{len(self.executions)}", tokens={token}, request=request)
        )
        return self.executions[-1].arn

    def forget_tokens(self) -> None:
        """Forget the tokens of all starts."""
        for each in self.executions:
            each.tokens -= (
                {each.request.client_request_token} if each.request else set()
            )

    def list(self) -> list[ExecutionDescription]:
        """List the executions, the newest first."""
        return [self.describe(each) for each in reversed(self.executions)]

    @staticmethod
    def describe(execution: Execution) -> ExecutionDescription:
        """Describe an execution."""
        return ExecutionDescription.model_validate(
            {
                "PipelineExecutionArn": execution.arn,
                "PipelineExecutionStatus": execution.status,
                "PipelineExecutionDisplayName": execution.request
                and execution.request.execution_display_name,
            }
        )

    def find(self, arn: str) -> Execution:
        """Return an execution."""
        return next(each for each in self.executions if each.arn == arn)

    def resume(self, arn: str, token: str) -> None:
        """Resume a failed execution; do nothing if the token is known."""
        execution = self.find(arn)
        if token in execution.tokens:
            return
        if execution.status not in ("Failed", "CompletedWithFailures"):
            raise api_error("ValidationException")
        self._refuse(token, "AccessDeniedException")
        execution.tokens.add(token)
        execution.status = "Executing"

    def stop(self, arn: str, attempt: int) -> bool:
        """
        Stop an execution that runs; a token of an earlier attempt does nothing. Return
        False if AWS fails.
        """
        execution, token = self.find(arn), f"stop {arn} {attempt}"
        if self._random.random() < 0.05:
            return False
        if token not in execution.tokens and execution.status == "Executing":
            execution.tokens.add(token)
            execution.status = "Stopping"
        return True

    def _refuse(self, token: str, code: str) -> None:
        """Refuse a new token, sometimes."""
        if token in self._refused or self._random.random() < 0.03:
            self._refused.add(token)
            raise api_error(code)

    @property
    def stops(self) -> int:
        """How many stops of executions were requested."""
        return sum(each.stops for each in self.executions)

    def progress(self) -> None:
        """Let one execution go on."""
        if self.running:
            execution = self._random.choice(self.running)
            ends = ["Succeeded", "Failed", "CompletedWithFailures"]
            execution.status = self._random.choice(
                [*ends, "Failed"]
                if execution.status == "Executing"
                else ["Stopped", "Stopped", *ends]
            )


def api_error(code: str, *, transient: bool = False) -> SageMakerApiError:
    """Return an error of AWS's."""
    return SageMakerApiError(
        "no",
        error_code=code,
        operation="x",
        permanent=not transient,
        transient=transient,
    )


def event_of(execution: Execution) -> ExecutionEvent:
    """Return the event of an execution that has ended."""
    return ExecutionEvent(
        outcome="ended",
        execution_arn=execution.arn,
        pipeline_name="fanout",
        status=execution.status,
        message=None,
        started_at=None,
        ended_at=None,
    )
