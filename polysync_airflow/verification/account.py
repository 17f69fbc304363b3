"""
What the checks make in an account, and the calls with which they look at it.

All calls go through the hook of the Airflow connection, so its way to sign in and its limits apply. Each
pipeline is remembered before it is created, so that ``clean`` deletes it also if the response is lost.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.response_limits import PAGE_SIZE, check_size, paginate
from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    SageMakerApiError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks.calls import entries_of, parse
from polysync_airflow.states import has_ended
from polysync_airflow.verification.cleaning import delete_pipelines, pipeline_name
from polysync_airflow.verification.hook import VerifyHook

Response = Mapping[str, Any]
Facts = TypeVar("Facts")

# An execution of conditions takes some seconds.
END_SECONDS: Final = 180.0
POLL_SECONDS: Final = 1.0
# Gentle, because an account shares its rate with everything else in it.
CALLS_PER_SECOND: Final = 20.0
ATTEMPTS: Final = 7
# How many executions or steps a check looks at: a check starts a few only.
MAX_LISTED: Final = 1000
_REFUSALS: Final = (CONFLICT, RESOURCE_NOT_FOUND, VALIDATION)
_QUOTA: Final = "ResourceLimitExceeded"
_CURE: Final = " -- What to do: "


class CancelledError(Exception):
    """Raised in a check when the run is ended."""


@dataclass(frozen=True)
class Refusal:
    """
    An answer of AWS that refuses a request.

    :param code: AWS's error code, as SageMaker spells it.
    :param text: AWS's message.
    """

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    What a run may do beside what costs nothing.

    :param job_image: URI of the image of the processing job; None for no job.
    :param queue_url: URL of a queue with events of SageMaker; None to leave events out.
    :param simulate_policy: whether to ask IAM about each action of the provider.
    """

    job_image: str | None = None
    queue_url: str | None = None
    simulate_policy: bool = False

    def has(self, option: str) -> bool:
        """Return whether an option of the command was given."""
        given = {
            "--with-job": self.job_image,
            "--queue-url": self.queue_url,
            "--simulate-policy": self.simulate_policy,
        }
        return bool(given[option])


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    facts: Any = None
    error: Exception | None = None
    is_done: bool = False


class Account:
    """
    An account, as the checks of one run use it. Thread-safe.

    :param hook: the hook of the Airflow connection.
    :param role_arn: the role of the pipelines.
    :param run_id: eight hexadecimal digits, which are in the names of all pipelines of the run.
    """

    def __init__(self, hook: VerifyHook, role_arn: str, run_id: str, options: Options | None = None) -> None:
        self.hook = hook
        self.role_arn = role_arn
        self.run_id = run_id
        self.options = options or Options()
        self._lock = threading.Lock()
        self._slots: dict[Callable[..., Any], _Slot] = {}
        self._created: list[str] = []
        self._cancelled = threading.Event()
        self._limiter = RateLimiter(clock.monotonic(), rate=CALLS_PER_SECOND)

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

    def cancel(self) -> None:
        """End the checks: each raises ``CancelledError`` before its next call, and after its next pause."""
        self._cancelled.set()

    def clean(self) -> dict[str, str]:
        """
        Stop what runs, and delete what was made. Call it when no check runs any more.

        :return: why a pipeline is still there, by its name.
        """
        with self._lock:
            names = list(self._created)
        problems = delete_pipelines(self.hook.call, names)
        with self._lock:
            self._created = [name for name in self._created if name in problems]
        return problems

    def sleep(self, seconds: float = POLL_SECONDS) -> None:
        """Wait, unless the run is ended."""
        clock.sleep(seconds)
        self._check()

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    # ---- calls

    def call(self, operation: str, **request: Any) -> Response:
        """
        Call an operation of SageMaker, again after throttling and lost connections.

        :raises SageMakerApiError: AWS refuses the request.
        """
        retrying = Retrying(
            retry=retry_if_exception(_may_be_repeated),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(multiplier=0.5, max=10),
            sleep=self.sleep,
            reraise=True,
        )
        return retrying(self._call, operation, request)

    def _call(self, operation: str, request: Mapping[str, Any]) -> Response:
        self._check()
        self._limiter.acquire(self.sleep)
        try:
            return self.hook.call(operation, **request)
        except SageMakerApiError as error:
            if is_throttling(error):
                self._limiter.throttled(clock.monotonic())
            raise

    def attempt(self, operation: str, **request: Any) -> Response | Refusal:
        """
        Call an operation that AWS may refuse because of the request or of the state of what it names.

        :raises SageMakerApiError: another error, such as a missing permission.
        """
        try:
            return self.call(operation, **request)
        except SageMakerApiError as error:
            if not has_code(error, *_REFUSALS):
                raise
            return Refusal(error.canonical_code, _text_of(error))

    def has_member(self, operation: str, member: str) -> bool:
        """Return whether the installed boto3 knows a member of a request."""
        client: Any = self.hook.conn
        return member in client.meta.service_model.operation_model(operation).input_shape.members

    @cached_property
    def region(self) -> str:
        """The AWS region of the client."""
        return self.hook.client_region

    # ---- pipelines and executions

    @staticmethod
    def token() -> str:
        """Return a new client request token."""
        return f"polysync-verify-{uuid.uuid4()}"

    def name_of(self, subject: str) -> str:
        """Return the name of a pipeline of this run."""
        return pipeline_name(self.run_id, subject)

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
        entries = self._list(operation, member, PipelineExecutionArn=arn)
        return [parse(StepDescription, operation, entry) for entry in entries]

    def executions(self, pipeline: str, **members: Any) -> list[Response]:
        """List the executions of a pipeline, as AWS sorts them."""
        return self._list(
            "ListPipelineExecutions", "PipelineExecutionSummaries", PipelineName=pipeline, **members
        )

    def parameters(self, arn: str) -> dict[str, str]:
        """List the parameters of an execution."""
        entries = self._list(
            "ListPipelineParametersForExecution", "PipelineParameters", PipelineExecutionArn=arn
        )
        return {str(entry.get("Name")): str(entry.get("Value")) for entry in entries}

    def _list(
        self, operation: str, member: str, *, page_size: int = PAGE_SIZE, **request: Any
    ) -> list[Response]:
        entries: list[Response] = []
        for page in self.pages(operation, page_size=page_size, **request):
            entries += [
                entry for entry in entries_of(dict(page), operation, member) if isinstance(entry, dict)
            ]
            check_size(operation, len(entries), MAX_LISTED)
        return entries

    def pages(self, operation: str, *, page_size: int = PAGE_SIZE, **request: Any) -> Sequence[Response]:
        """Read the pages of a list."""

        def list_page(token: str | None) -> tuple[Response, Any]:
            following = {"NextToken": token} if token else {}
            page = self.call(operation, MaxResults=page_size, **request, **following)
            return page, page.get("NextToken")

        return list(paginate(operation, list_page))


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


def _may_be_repeated(error: BaseException) -> bool:
    # A conflict is an answer that the checks look at. The executions that use up a quota end within seconds.
    if has_code(error, CONFLICT):
        return False
    return has_code(error, _QUOTA) or (isinstance(error, PolysyncError) and error.transient)


def _text_of(error: SageMakerApiError) -> str:
    text = str(error).removeprefix(f"{error.operation} failed: {error.error_code}: ")
    return text.partition(_CURE)[0]
