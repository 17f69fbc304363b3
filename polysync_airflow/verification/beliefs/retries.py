"""
Resumes: which steps are repeated, tokens, and what an update of the pipeline changes.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from polysync_airflow.execution.steps.callbacks import find_step
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, arn_of, missing_execution, status_of
from polysync_airflow.verification.beliefs.outcomes import failed, succeeded
from polysync_airflow.verification.calls import Refusal, Response
from polysync_airflow.verification.models import ACCEPTED, INVALID, Seen, belief_maker, told

Answer = Response | Refusal
# The end of the name of the function after the update.
_UPDATED: Final = "-after-update"


@dataclass(frozen=True)
class Look:
    """
    An execution that has ended.

    :param began: when each step began.
    """

    answer: Response
    began: Mapping[str, datetime | None]
    attempts: Mapping[str, int | None]
    third: StepDescription | None

    @property
    def created_at(self) -> object:
        """When AWS says that it was created."""
        return self.answer.get("CreationTime")


@dataclass(frozen=True)
class Resumes:
    """An execution that fails, and is resumed, with what is tried in between."""

    arn: str
    before: Look
    first: Answer
    at_once: str
    again_while_running: Answer
    other_token_while_running: Answer
    after_first: Look
    again_after_end: Answer
    status_after_again: str
    second: Answer
    after_second: Look | None


def resumes(account: Account) -> Resumes:
    """Start an execution that fails, update its pipeline, and resume it twice."""
    name = account.create("resume", definitions.resumable(account.function_arn()))
    arn = account.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    account.wait_for_end(arn)
    before = _look(account, arn)
    changed = definitions.resumable(account.function_arn(_UPDATED))
    account.call("UpdatePipeline", PipelineName=name, PipelineDefinition=changed, RoleArn=account.role_arn)
    token = account.token()
    first = account.try_to_resume(arn, token)
    at_once = status_of(account.describe(arn))
    again_while_running = account.try_to_resume(arn, token)
    other_token_while_running = account.try_to_resume(arn)
    account.wait_for_end(arn)
    after_first = _look(account, arn)
    again_after_end = account.try_to_resume(arn, token)
    status_after_again = status_of(account.describe(arn))
    second = account.try_to_resume(arn)
    if not isinstance(second, Refusal):
        account.wait_for_end(arn)
    return Resumes(
        arn=arn,
        before=before,
        first=first,
        at_once=at_once,
        again_while_running=again_while_running,
        other_token_while_running=other_token_while_running,
        after_first=after_first,
        again_after_end=again_after_end,
        status_after_again=status_after_again,
        second=second,
        after_second=None if isinstance(second, Refusal) else _look(account, arn),
    )


def _look(account: Account, arn: str) -> Look:
    steps = account.steps(arn)
    return Look(
        account.describe(arn),
        {step.name: step.started_at for step in steps},
        {step.name: step.attempt_count for step in steps},
        find_step(steps, "Third"),
    )


def _field(name: str) -> Callable[[Account], Seen]:
    return lambda account: told(getattr(account.once(resumes), name))


def _same_arn(account: Account) -> Seen:
    found = account.once(resumes)
    if isinstance(found.first, Refusal):
        return told(found.first)
    return Seen("the same" if arn_of(found.first) == found.arn else "another")


def _repeated(account: Account) -> Seen:
    found = account.once(resumes)
    names = [name for name, at in found.after_first.began.items() if at != found.before.began.get(name)]
    return Seen(", ".join(sorted(names)) or "none")


def _attempts(account: Account) -> Seen:
    attempts = account.once(resumes).after_first.attempts
    return Seen(str(attempts.get("Third")), f"before {account.once(resumes).before.attempts.get('Third')}")


def _creation_time(account: Account) -> Seen:
    found = account.once(resumes)
    return Seen("kept" if found.after_first.created_at == found.before.created_at else "changed")


def _parallelism(account: Account) -> Seen:
    found = account.once(resumes)
    limits = [look.answer.get("ParallelismConfiguration") for look in (found.before, found.after_first)]
    kept = limits[0] is not None and limits[0] == limits[1]
    return Seen("that of the start" if kept else "that of the pipeline" if limits[0] else "not shown")


def _definition(account: Account) -> Seen:
    step = account.once(resumes).after_first.third
    # The function that was called is in the metadata, or in the reason why it was not.
    text = f"{step.job_arn} {step.failure_reason}" if step else ""
    if account.function_arn() not in text:
        return Seen("the function is not shown", text)
    return Seen("that of the update" if account.function_arn(_UPDATED) in text else "that of the start", text)


def _shown_definition(account: Account) -> Seen:
    arn = account.once(resumes).arn
    answer = account.call("DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn)
    shown = answer.get("PipelineDefinition")
    of_start = definitions.resumable(account.function_arn())
    return Seen("that of the start" if shown == of_start else "another")


def _again_after_end(account: Account) -> Seen:
    found = account.once(resumes)
    if isinstance(found.again_after_end, Refusal):
        return told(found.again_after_end)
    resumed = found.status_after_again == "Executing"
    return Seen("accepted, and resumes again" if resumed else "accepted, and resumes nothing")


def _second(account: Account) -> Seen:
    found = account.once(resumes)
    if found.after_second is None:
        return told(found.second)
    began, before = found.after_second.began.get("Third"), found.after_first.began.get("Third")
    return Seen(
        "accepted, and repeats the failed step" if began != before else "accepted, and repeats nothing"
    )


def _resume_of_succeeded(account: Account) -> Seen:
    return told(account.try_to_resume(account.once(succeeded).arn))


def _resume_after_fail_step(account: Account) -> Seen:
    return told(account.try_to_resume(account.once(failed).arn))


def _missing(account: Account) -> Seen:
    missing = missing_execution(account.once(resumes).arn)
    return told(account.try_to_resume(missing))


_ONCE: Final = "docs/explanation/one-execution-per-task.md"
_MACHINE: Final = "polysync_airflow/execution/lifecycle/machine.py"
_ENGINE: Final = "emulator/sagemaker_emulator/engine/execution.py"
_MODELS: Final = "polysync_airflow/execution/models.py"
_WAITER: Final = "polysync_airflow/execution/waiter.py"


_belief: Final = belief_maker("resume")

BELIEFS: Final = (
    _belief(
        "failed",
        "A failed execution can be resumed, and keeps its ARN.",
        "the same",
        _same_arn,
        _MACHINE,
        _ONCE,
    ),
    _belief(
        "status",
        "Right after the response, its status is Executing, and no longer Failed.",
        "Executing",
        lambda account: Seen(account.once(resumes).at_once),
        _WAITER,
        "polysync_airflow/operators/task_try.py",
    ),
    _belief(
        "repeated",
        "Only the steps that had not succeeded are repeated.",
        "Third",
        _repeated,
        _ONCE,
        "docs/how-to/retry-and-resume.md",
    ),
    _belief(
        "attempts",
        "The attempts of a repeated step are counted on.",
        "2",
        _attempts,
        "emulator/sagemaker_emulator/engine/execution.py",
        "polysync_airflow/execution/steps/progress.py",
    ),
    _belief(
        "creation-time",
        "A resumed execution keeps its creation time.",
        "kept",
        _creation_time,
        _MODELS,
    ),
    _belief(
        "parallelism",
        "A resume without a limit of parallel steps has that of the pipeline, not that of the start.",
        "that of the pipeline",
        _parallelism,
        "polysync_airflow/hooks/executions.py",
        "polysync_airflow/operators/task_try.py",
    ),
    _belief(
        "definition",
        "The repeated steps have the definition of the start, also after an update of the pipeline.",
        "that of the start",
        _definition,
        _ONCE,
        _ENGINE,
        "docs/how-to/retry-and-resume.md",
    ),
    _belief(
        "shown-definition",
        "DescribePipelineDefinitionForExecution has the definition of the start, also after an update.",
        "that of the start",
        _shown_definition,
        "polysync_airflow/hooks/executions.py",
    ),
    _belief(
        "same-token",
        "A resume that is sent again with the same token is accepted while the execution runs.",
        ACCEPTED,
        _field("again_while_running"),
        _MACHINE,
        _ONCE,
    ),
    _belief(
        "same-token-after-end",
        "After the execution has failed again, the same token resumes nothing.",
        "accepted, and resumes nothing",
        _again_after_end,
        _MACHINE,
        _ONCE,
    ),
    _belief(
        "other-token",
        "A resume with another token is refused while the execution runs.",
        INVALID,
        _field("other_token_while_running"),
        _MACHINE,
        _ENGINE,
    ),
    _belief(
        "second",
        "An execution that has failed again can be resumed a second time.",
        "accepted, and repeats the failed step",
        _second,
        _ONCE,
    ),
    _belief(
        "succeeded",
        "An execution that has succeeded cannot be resumed.",
        INVALID,
        _resume_of_succeeded,
        _ENGINE,
    ),
    _belief(
        "fail-step",
        "An execution that has ended with a Fail step cannot be resumed.",
        INVALID,
        _resume_after_fail_step,
        _ENGINE,
        "docs/how-to/retry-and-resume.md",
    ),
    _belief(
        "missing",
        "The resume of an execution that does not exist is refused.",
        "refused with ResourceNotFound",
        _missing,
        "polysync_airflow/auth/connection_test.py",
    ),
)
