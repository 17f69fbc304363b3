"""
What the checks make in an account, and how they look at it.

Each pipeline is remembered before it is created, so that ``clean`` deletes it also if
the response is lost.
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
    Observed,
    Refusal,
    Response,
    Seen,
    within,
)
from sagemaker_emulator.verify.session import Session

# How long a search waits for an execution in a list.
LISTED_SECONDS: Final = 60.0
# An execution of conditions takes some seconds.
END_SECONDS: Final = 180.0
_LOOKS: Final = 180
RUNNING: Final = ("Executing", "Stopping")


@dataclass(frozen=True)
class End:
    """
    An execution that has ended.

    :param listed: its steps, listed right after the end was seen, or why they are not.
    """

    arn: str
    answer: Response
    listed: Sequence[Response] | Seen | NotCheckedError

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
        if isinstance(self.listed, Seen | NotCheckedError):
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

    def each(self, member: str) -> dict[str, Any]:
        """Return a member of each step, by its name."""
        return {name: step.get(member) for name, step in self.steps.items()}


class Account(Calls):
    """
    An account, as the checks of one run use it. Thread-safe.

    :param session: how the account is called.
    :param role_arn: the role of the pipelines.
    :param run_id: eight hexadecimal digits, which are in the names of all pipelines of
        the run.
    :param options: those of the command that were given, with their values, such as
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
        Return the facts that an experiment finds, and that nobody changes. It is made
        once, by the first scenario that asks for it.

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
        Stop what runs, and delete what was made. Call it when no check runs any more.

        :return: why a pipeline is still there, by its name.
        """
        # Of the checks, not of the deletion.
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

    def update(self, pipeline: str, definition: str) -> None:
        """Change the definition of a pipeline."""
        members = {"PipelineName": pipeline, "PipelineDefinition": definition}
        self.call("UpdatePipeline", RoleArn=self.role_arn, **members)

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
        return str(
            self.call("StartPipelineExecution", **request)["PipelineExecutionArn"]
        )

    def stop(self, arn: str, token: str | None = None) -> None:
        """
        Request a stop.

        :param token: the client request token; None for a new one.
        """
        request = {
            "PipelineExecutionArn": arn,
            "ClientRequestToken": token or self.token(),
        }
        self.call("StopPipelineExecution", **request)

    def resume(self, arn: str, token: str | None = None) -> str:
        """
        Request a resume, and return the ARN of the execution. The token is that of
        ``stop``.
        """
        request = {
            "PipelineExecutionArn": arn,
            "ClientRequestToken": token or self.token(),
        }
        return str(
            self.call("RetryPipelineExecution", **request)["PipelineExecutionArn"]
        )

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
        self, what: str, is_there: Callable[[], bool], seconds: float = END_SECONDS
    ) -> None:
        """
        Wait until a condition is true.

        :param what: what is waited for, for the error.
        :raises NotCheckedError: it takes too long.
        """
        until = self.now() + seconds
        while not is_there():
            if self.now() > until:
                raise NotCheckedError(f"{what} did not come within {seconds:.0f} s")
            # What may take longer is looked at less often.
            self.sleep(max(POLL_SECONDS, seconds / _LOOKS))

    def has_ended(self, arn: str) -> bool:
        """Return whether an execution has ended. AWS may not find it at once."""
        status = self.attempt(self.status, arn)
        return isinstance(status, str) and status not in RUNNING

    def end(self, arn: str, premise: str = "", seconds: float = END_SECONDS) -> End:
        """
        Wait until an execution has ended.

        :param premise: the status on which checks rely; empty for any.
        :raises NotCheckedError: it has ended with another status.
        """
        self.wait_for("The end of an execution", lambda: self.has_ended(arn), seconds)
        end = End(arn, self.describe(arn), self.observe(self.steps, arn))
        self.expect(end.status, premise or end.status)
        return end

    def run(self, subject: str, definition: str, premise: str = "") -> End:
        """Create a pipeline, and wait for the end of an execution, as ``end`` does."""
        return self.end(self.start(self.create(subject, definition)), premise)

    def begin(self, subject: str, length: int = CHAIN_LENGTH) -> tuple[str, str]:
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
            names = (
                [step["StepName"] for step in steps] if isinstance(steps, list) else []
            )
            return "Step2" in names or self.has_ended(arn)

        # The first one has succeeded then.
        self.wait_for("The second step of an execution", has_begun)
        self.expect(self.status(arn), "Executing")
        return name, arn

    @staticmethod
    def expect(status: str, *wanted: str) -> str:
        """
        Return the status of an execution on which checks rely.

        :param wanted: the statuses that it may be.
        :raises NotCheckedError: it is another one.
        """
        if status not in wanted:
            raise NotCheckedError(
                f"the execution {'is' if status in RUNNING else 'ended as'} {status}"
            )
        return status

    @staticmethod
    def require(what: str, answer: Observed) -> None:
        """
        Go on if AWS has accepted a request on which checks rely.

        :raises NotCheckedError: it has not.
        """
        if answer != "accepted":
            raise (
                answer
                if isinstance(answer, NotCheckedError)
                else NotCheckedError(f"{what} is {answer}")
            )

    def given(self, arn: str, observed: Observed, *statuses: str) -> Observed:
        """
        Return what was observed of an execution if its status is still one of these.

        It was so before, too: a status that has passed does not come again unless
        somebody resumes.
        """
        status = self.observe(self.expect, self.status(arn), *statuses)
        return status if isinstance(status, NotCheckedError) else observed

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
        self, is_there: Callable[[], bool], limit: float = LISTED_SECONDS
    ) -> Seen:
        """
        Return how long it takes until something is there. It is looked for longer than
        the limit.
        """
        begin = self.now()
        while not is_there():
            if self.now() - begin > 2 * limit:
                return Seen(
                    f"not within {limit:.0f} s", f"not within {2 * limit:.0f} s either"
                )
            self.sleep(0.2)
        return within(self.now() - begin, limit)


def missing_execution(arn: str) -> str:
    """Return the ARN of an execution of the same pipeline that does not exist."""
    return f"{arn.rpartition('/')[0]}/{'0' * 12}"
