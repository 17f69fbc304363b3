"""
What the checks do in an account: create pipelines, start executions, wait for them.

``create`` notes the name of a pipeline before it sends the request, so that ``clean``
deletes the pipeline also if the response is lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from sagemaker_emulator.verify.calls import POLL_SECONDS, Calls, Facts
from sagemaker_emulator.verify.cleaning import PREFIX, delete_pipelines, run_tags
from sagemaker_emulator.verify.definitions import CHAIN_LENGTH, NO_FUNCTION, chain
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observed,
    Refusal,
    Response,
    within,
)
from sagemaker_emulator.verify.session import Session

# How long a search waits for an execution in a list.
LISTED_SECONDS: Final = 60.0
# An execution of conditions takes some seconds.
END_SECONDS: Final = 180.0
_POLLS: Final = 180
RUNNING: Final = ("Executing", "Stopping")


@dataclass(frozen=True)
class End:
    """
    An execution that has ended.

    :param answer: the response of DescribePipelineExecution.
    :param listed: its steps, listed right after the end was seen, or why they are not.
    """

    arn: str
    answer: Response
    listed: Sequence[Response] | Observation | NotCheckedError

    @property
    def status(self) -> str:
        """The status of the execution."""
        return str(self.answer["PipelineExecutionStatus"])

    @property
    def steps(self) -> dict[str, Response]:
        """
        The steps by their names.

        :raises NotCheckedError: AWS has not listed them.
        """
        if isinstance(self.listed, Observation | NotCheckedError):
            raise NotCheckedError(str(self.listed))
        return {step["StepName"]: step for step in self.listed}

    def step(self, name: str) -> Response:
        """
        Return a step on which checks rely.

        :raises NotCheckedError: it is not listed.
        """
        if name not in self.steps:
            raise NotCheckedError(f"the step {name} is not listed")
        return self.steps[name]

    def by_step(self, member: str) -> dict[str, Any]:
        """Return a member of the steps, such as ``EndTime``, by their names."""
        return {name: step.get(member) for name, step in self.steps.items()}


class Account(Calls):
    """
    An account, as the checks of one run use it. Thread-safe.

    :param session: how the account is called.
    :param role_arn: the role of the pipelines.
    :param run_id: eight hexadecimal digits, which are in the names of all pipelines of
        the run.
    :param options: the options on the command line, with their values, such as
        ``--queue-url``.
    """

    def __init__(
        self, session: Session, role_arn: str, run_id: str, options: Mapping[str, Any]
    ) -> None:
        super().__init__(session)
        self.role_arn = role_arn
        self.run_id = run_id
        self.options = options
        self._facts: dict[Callable[..., Any], Future[Any]] = {}
        self._created: list[str] = []

    def once(self, experiment: Callable[[Account], Facts]) -> Facts:
        """
        Return the facts that an experiment finds, and that nobody changes. The first
        scenario that asks for them makes the experiment, and the others wait for it.

        :raises Exception: the error of the experiment, in each scenario.
        """
        with self._lock:
            is_first = experiment not in self._facts
            facts: Future[Facts] = self._facts.setdefault(experiment, Future())
        if is_first:
            try:
                facts.set_result(experiment(self))
            except BaseException as error:
                facts.set_exception(error)
        return facts.result()

    def clean(self) -> dict[str, BaseException]:
        """
        Stop the executions, and delete the pipelines. Call it when no check runs any
        more.

        :return: why a pipeline is still there, by its name.
        """
        # The end of the run has cancelled the checks, but does not cancel the deletion.
        self._cancelled.clear()
        problems = delete_pipelines(self, self._created)
        self._created = list(problems)
        return problems

    @staticmethod
    def token() -> str:
        """Return a new client request token."""
        return f"polysync-verify-{uuid.uuid4()}"

    def name_of(self, subject: str) -> str:
        """Return the name of a pipeline of this run."""
        return f"{PREFIX}-{self.run_id}-{subject}"

    def function_arn(self, suffix: str = "") -> str:
        """
        Return the ARN of a Lambda function that does not exist, in the account of the
        role.
        """
        _, partition, _, _, account, _ = self.role_arn.split(":", 5)
        function = f"function:{NO_FUNCTION}{suffix}"
        return f"arn:{partition}:lambda:{self.region}:{account}:{function}"

    def create(self, subject: str, definition: str) -> str:
        """
        Create a pipeline, and return its name, which ends with the subject: letters and
        hyphens.
        """
        name = self.name_of(subject)
        self._created.append(name)
        self.call(
            "CreatePipeline",
            PipelineName=name,
            PipelineDefinition=definition,
            PipelineDescription="Made by polysync verify, which deletes it.",
            RoleArn=self.role_arn,
            # In this request: a run that is killed between two leaves nothing without
            # the tag.
            Tags=run_tags(self.run_id),
            ClientRequestToken=self.token(),
        )
        return name

    def update(self, pipeline: str, definition: str) -> str:
        """Change the definition of a pipeline, and return its version in words."""
        response = self.call(
            "UpdatePipeline",
            PipelineName=pipeline,
            PipelineDefinition=definition,
            RoleArn=self.role_arn,
        )
        return f"version {response.get('PipelineVersionId')}"

    def start(self, pipeline: str, **members: Any) -> str:
        """
        Start an execution, with a new token unless there is one in ``members``, and
        return its ARN.
        """
        request = {
            "PipelineName": pipeline,
            "ClientRequestToken": self.token(),
            **members,
        }
        response = self.call("StartPipelineExecution", **request)
        return str(response["PipelineExecutionArn"])

    def stop(self, arn: str, token: str | None = None) -> None:
        """
        Request a stop.

        :param token: the client request token; None for a new one.
        """
        self.call(
            "StopPipelineExecution",
            PipelineExecutionArn=arn,
            ClientRequestToken=token or self.token(),
        )

    def resume(self, arn: str, token: str | None = None) -> str:
        """
        Request a resume, and return the ARN of the execution.

        :param token: the client request token; None for a new one.
        """
        response = self.call(
            "RetryPipelineExecution",
            PipelineExecutionArn=arn,
            ClientRequestToken=token or self.token(),
        )
        return str(response["PipelineExecutionArn"])

    def describe(self, arn: str) -> Response:
        """Describe an execution."""
        return dict(self.call("DescribePipelineExecution", PipelineExecutionArn=arn))

    def status(self, arn: str) -> str:
        """Return the status of an execution."""
        return str(self.describe(arn)["PipelineExecutionStatus"])

    def is_found(self, arn: str) -> bool:
        """Return whether AWS finds an execution."""
        return not isinstance(self.attempt(self.describe, arn), Refusal)

    def wait_for(
        self, awaited: str, condition: Callable[[], bool], seconds: float = END_SECONDS
    ) -> None:
        """
        Wait until a condition is true.

        :param awaited: what is waited for, for the error.
        :raises NotCheckedError: it takes longer than these seconds.
        """
        until = self.now() + seconds
        # What may take longer is polled less often.
        pause = max(POLL_SECONDS, seconds / _POLLS)
        while not condition():
            if self.now() > until:
                raise NotCheckedError(f"{awaited} did not come within {seconds:.0f} s")
            self.sleep(pause)

    def has_ended(self, arn: str) -> bool:
        """Return whether an execution has ended. AWS may not find it at once."""
        status = self.attempt(self.status, arn)
        return isinstance(status, str) and status not in RUNNING

    def wait_for_end(
        self, arn: str, premise: str = "", seconds: float = END_SECONDS
    ) -> End:
        """
        Wait until an execution has ended.

        :param premise: the status on which checks rely; empty for any.
        :raises NotCheckedError: it has ended with another status.
        """
        self.wait_for("The end of an execution", lambda: self.has_ended(arn), seconds)
        end = End(arn, self.describe(arn), self.observe(self.steps, arn))
        if premise:
            self.require_status(end.status, premise)
        return end

    def run_to_end(self, subject: str, definition: str, premise: str = "") -> End:
        """Create a pipeline, start it, and wait for the end of the execution."""
        arn = self.start(self.create(subject, definition))
        return self.wait_for_end(arn, premise)

    def start_chain(self, subject: str, length: int = CHAIN_LENGTH) -> tuple[str, str]:
        """
        Create a pipeline of steps that run one after the other, and start it until its
        second step has begun.

        :return: the name of the pipeline, and the ARN of the execution.
        :raises NotCheckedError: the execution does not run.
        """
        name = self.create(subject, chain(length))
        arn = self.start(name)

        def has_begun() -> bool:
            steps = self.attempt(self.steps, arn)
            if isinstance(steps, list):
                for step in steps:
                    if step["StepName"] == "Step2":
                        return True
            return self.has_ended(arn)

        # The first one has succeeded then.
        self.wait_for("The second step of an execution", has_begun)
        self.require_status(self.status(arn), "Executing")
        return name, arn

    @staticmethod
    def require_status(status: str, *wanted: str) -> str:
        """
        Return the status of an execution on which checks rely.

        :param wanted: the statuses that it may be.
        :raises NotCheckedError: it is another one.
        """
        if status in wanted:
            return status
        if status in RUNNING:
            raise NotCheckedError(f"the execution is {status}")
        raise NotCheckedError(f"the execution ended as {status}")

    @staticmethod
    def require_accepted(request: str, answer: Observed) -> None:
        """
        Check that AWS has accepted a request on which checks rely.

        :param request: what was requested, for the error.
        :param answer: what ``answer_to`` has returned.
        :raises NotCheckedError: AWS has not.
        """
        if answer == "accepted":
            return
        if isinstance(answer, NotCheckedError):
            raise answer
        raise NotCheckedError(f"{request} is {answer}")

    def if_still(self, arn: str, observed: Observed, *statuses: str) -> Observed:
        """
        Return what was observed of an execution if its status is still one of these,
        else why it was not checked.

        The status was one of these before, too: one that has passed does not come again
        unless somebody resumes.
        """
        status = self.status(arn)
        try:
            self.require_status(status, *statuses)
        except NotCheckedError as reason:
            return reason
        return observed

    def wait_for_list(self, pipeline: str, count: int) -> Sequence[Response]:
        """
        Return the executions of a pipeline, once so many are listed.

        :raises NotCheckedError: they are not within a minute.
        """
        self.wait_for(
            "A list", lambda: len(self.executions(pipeline)) >= count, LISTED_SECONDS
        )
        return self.executions(pipeline)

    def seconds_until(
        self, condition: Callable[[], bool], limit: float = LISTED_SECONDS
    ) -> Observation:
        """
        Wait until something is there, for twice the limit, and return whether it took
        longer than the limit.
        """
        begin = self.now()
        while not condition():
            if self.now() - begin > 2 * limit:
                return Observation(
                    f"not within {limit:.0f} s", f"not within {2 * limit:.0f} s either"
                )
            self.sleep(0.2)
        return within(self.now() - begin, limit)


def missing_execution(arn: str) -> str:
    """Return the ARN of an execution of the same pipeline that does not exist."""
    return f"{arn.rpartition('/')[0]}/{'0' * 12}"
