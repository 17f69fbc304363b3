"""
What the checks make in an account, and how they look at it.

Each pipeline is remembered before it is created, so that ``clean`` deletes it also if the response is lost.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from polysync_airflow.exceptions import CONFLICT, PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks.calls import parse
from polysync_airflow.states import has_ended
from polysync_airflow.verification.arguments import Options
from polysync_airflow.verification.calls import POLL_SECONDS, Calls, Refusal, Response
from polysync_airflow.verification.cleaning import delete_pipelines, pipeline_name, run_tags
from polysync_airflow.verification.definitions import NO_FUNCTION
from polysync_airflow.verification.hook import VerifyHook

Facts = TypeVar("Facts")

# An execution of conditions takes some seconds.
END_SECONDS: Final = 180.0
_STOP_ATTEMPTS: Final = 4
_STOP_PAUSE_SECONDS: Final = 0.3


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    facts: Any = None
    error: Exception | None = None
    is_done: bool = False


class Account(Calls):
    """
    An account, as the checks of one run use it. Thread-safe.

    :param hook: the hook of the Airflow connection.
    :param role_arn: the role of the pipelines.
    :param run_id: eight hexadecimal digits, which are in the names of all pipelines of the run.
    """

    def __init__(self, hook: VerifyHook, role_arn: str, run_id: str, options: Options | None = None) -> None:
        super().__init__(hook)
        self.role_arn = role_arn
        self.run_id = run_id
        self.options = options or Options()
        self._lock = threading.Lock()
        self._slots: dict[Callable[..., Any], _Slot] = {}
        self._created: list[str] = []

    # ---- the run

    def once(self, experiment: Callable[[Account], Facts]) -> Facts:
        """
        Return the facts that an experiment finds. It is made once, by the first check that asks for it.

        :raises Exception: the error of the experiment, in each check.
        """
        with self._lock:
            slot = self._slots.setdefault(experiment, _Slot())
        with slot.lock:
            if not slot.is_done:
                try:
                    slot.facts = experiment(self)
                except Exception as error:
                    slot.error = error
                slot.is_done = True
        if slot.error:
            raise slot.error
        facts: Facts = slot.facts
        return facts

    def clean(self) -> dict[str, PolysyncError]:
        """
        Stop what runs, and delete what was made. Call it when no check runs any more.

        :return: why a pipeline is still there, by its name.
        """
        with self._lock:
            names = list(self._created)
        problems = delete_pipelines(self.hook, names)
        with self._lock:
            self._created = [name for name in self._created if name in problems]
        return problems

    # ---- pipelines and executions

    @staticmethod
    def token() -> str:
        """Return a new client request token."""
        return f"polysync-verify-{uuid.uuid4()}"

    def name_of(self, subject: str) -> str:
        """Return the name of a pipeline of this run."""
        return pipeline_name(self.run_id, subject)

    def function_arn(self, suffix: str = "") -> str:
        """Return the ARN of a Lambda function that does not exist, in the account of the role."""
        _, partition, _, _, account, _ = self.role_arn.split(":", 5)
        return f"arn:{partition}:lambda:{self.region}:{account}:function:{NO_FUNCTION}{suffix}"

    def create(self, subject: str, definition: str) -> str:
        """
        Create a pipeline.

        :param subject: the last part of its name: letters, and hyphens between them.
        :return: its name.
        """
        created = self.try_to_create(subject, definition)
        if isinstance(created, Refusal):
            raise PolysyncError(
                f"AWS does not create the pipeline of the check: {created.code}: {created.text}"
            )
        return self.name_of(subject)

    def try_to_create(self, subject: str, definition: str) -> Response | Refusal:
        """Create a pipeline that AWS may refuse."""
        name = self.name_of(subject)
        with self._lock:
            self._created.append(name)
        return self.attempt(
            "CreatePipeline",
            PipelineName=name,
            PipelineDefinition=definition,
            PipelineDescription="Made by polysync verify, which deletes it.",
            RoleArn=self.role_arn,
            # In this request: a run that is killed between two leaves nothing without the tag.
            Tags=run_tags(self.run_id),
            ClientRequestToken=self.token(),
        )

    def start(self, pipeline: str, **members: Any) -> str:
        """Start an execution, and return its ARN."""
        return arn_of(self.call("StartPipelineExecution", **self.start_request(pipeline, **members)))

    def try_to_start(self, pipeline: str, **members: Any) -> str | Refusal:
        """Start an execution that AWS may refuse, and return its ARN."""
        answer = self.attempt("StartPipelineExecution", **self.start_request(pipeline, **members))
        return answer if isinstance(answer, Refusal) else arn_of(answer)

    def start_request(self, pipeline: str, **members: Any) -> dict[str, Any]:
        """Return a request that starts an execution, with a new token unless there is one in ``members``."""
        return {"PipelineName": pipeline, "ClientRequestToken": self.token(), **members}

    def try_to_stop(self, arn: str, token: str | None = None) -> Response | Refusal:
        """
        Request a stop, which AWS may refuse.

        AWS answers with a conflict for a moment while an execution moves between two steps.

        :param token: the client request token; None for a new one.
        """
        request = {"PipelineExecutionArn": arn, "ClientRequestToken": token or self.token()}
        answer = self.attempt("StopPipelineExecution", **request)
        for _ in range(_STOP_ATTEMPTS):
            if not isinstance(answer, Refusal) or answer.code != CONFLICT:
                break
            self.sleep(_STOP_PAUSE_SECONDS)
            answer = self.attempt("StopPipelineExecution", **request)
        return answer

    def try_to_resume(self, arn: str, token: str | None = None) -> Response | Refusal:
        """Request a resume, which AWS may refuse. The token is that of ``try_to_stop``."""
        request = {"PipelineExecutionArn": arn, "ClientRequestToken": token or self.token()}
        return self.attempt("RetryPipelineExecution", **request)

    def describe(self, arn: str) -> Response:
        """Describe an execution."""
        return self.call("DescribePipelineExecution", PipelineExecutionArn=arn)

    def wait_for(
        self,
        arn: str,
        condition: Callable[[Response], bool],
        what: str,
        seconds: float = END_SECONDS,
        pause: float = POLL_SECONDS,
    ) -> Response:
        """
        Describe an execution until a condition is true. AWS may not find it at once.

        :param what: what is waited for, for the error.
        :param seconds: how long.
        :param pause: seconds between two looks.
        :raises PolysyncError: it takes too long.
        """
        until = clock.monotonic() + seconds
        while True:
            answer = self.attempt("DescribePipelineExecution", PipelineExecutionArn=arn)
            if not isinstance(answer, Refusal) and condition(answer):
                return answer
            if clock.monotonic() > until:
                seen = answer.code if isinstance(answer, Refusal) else status_of(answer)
                raise PolysyncError(f"{what} did not come within {seconds:.0f} s; last seen: {seen}")
            self.sleep(pause)

    def wait_for_end(self, arn: str, seconds: float = END_SECONDS, pause: float = POLL_SECONDS) -> Response:
        """Wait until an execution has ended, and return its description."""
        return self.wait_for(
            arn, lambda answer: has_ended(status_of(answer)), "The end of an execution", seconds, pause
        )

    def steps(self, arn: str) -> list[StepDescription]:
        """List the steps of an execution, as AWS sorts them."""
        operation, member = "ListPipelineExecutionSteps", "PipelineExecutionSteps"
        entries = self.entries(operation, member, PipelineExecutionArn=arn)
        return [parse(StepDescription, operation, entry) for entry in entries]

    def executions(self, pipeline: str, **members: Any) -> list[Response]:
        """List the executions of a pipeline, as AWS sorts them."""
        return self.entries(
            "ListPipelineExecutions", "PipelineExecutionSummaries", PipelineName=pipeline, **members
        )

    def parameters(self, arn: str) -> dict[str, str]:
        """List the parameters of an execution."""
        entries = self.entries(
            "ListPipelineParametersForExecution", "PipelineParameters", PipelineExecutionArn=arn
        )
        return {str(entry.get("Name")): str(entry.get("Value")) for entry in entries}


def arn_of(answer: Response) -> str:
    """Return the ARN of an execution in an answer."""
    arn = answer.get("PipelineExecutionArn")
    return arn if isinstance(arn, str) else ""


def missing_execution(arn: str) -> str:
    """Return the ARN of an execution of the same pipeline that does not exist."""
    return f"{arn.rpartition('/')[0]}/{'0' * 12}"


def status_of(answer: Response) -> str:
    """Return the status of an execution in an answer."""
    status = answer.get("PipelineExecutionStatus")
    return status if isinstance(status, str) and re.fullmatch(r"[A-Za-z]{1,64}", status) else "no status"
