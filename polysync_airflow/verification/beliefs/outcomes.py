"""
Ends of executions: statuses, reasons, steps and times.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, status_of
from polysync_airflow.verification.calls import Refusal, Response
from polysync_airflow.verification.models import NotCheckedError, Seen, belief_maker, limit_text, told, within

_STEP_FAILURE: Final = "Step failure: One or multiple steps failed."
# A list of steps that is read right after the end is the one that the task reports.
_CLOCK_SECONDS: Final = 5.0


@dataclass(frozen=True)
class End:
    """An execution that has ended, and its steps, listed right after the end was seen."""

    arn: str
    answer: Response
    steps: Sequence[StepDescription]

    def step(self, name: str) -> StepDescription | None:
        """Return a step; None if it is not listed."""
        return next((step for step in self.steps if step.name == name), None)


def _end(account: Account, subject: str, definition: str) -> End:
    name = account.create(subject, definition)
    arn = account.start(name)
    answer = account.wait_for_end(arn)
    return End(arn, answer, account.steps(arn))


def failed(account: Account) -> End:
    """Run a pipeline that fails."""
    return _end(account, "failed", definitions.failing())


def succeeded(account: Account) -> End:
    """Run a pipeline that succeeds."""
    return _end(account, "succeeds", definitions.succeeding())


def _caught(account: Account) -> End | Refusal:
    """Run a pipeline with a step that runs because another one has failed."""
    definition = definitions.failure_beside_others(account.function_arn(), is_caught=True)
    answer = account.try_to_create("caught", definition)
    if isinstance(answer, Refusal):
        return answer
    arn = account.start(account.name_of("caught"))
    return End(arn, account.wait_for_end(arn), account.steps(arn))


def _uncaught(account: Account) -> End:
    """Run a pipeline with a step that fails while others run."""
    return _end(
        account, "uncaught", definitions.failure_beside_others(account.function_arn(), is_caught=False)
    )


def _status(account: Account) -> Seen:
    return Seen(f"{status_of(account.once(succeeded).answer)}, {status_of(account.once(failed).answer)}")


def _reason_of_step(account: Account) -> Seen:
    step = account.once(failed).step("Third")
    reason = step.failure_reason if step else None
    same = reason == definitions.REASON
    return Seen("the message of the step" if same else "another text" if reason else "no text", reason or "")


def _reason_of_execution(account: Account) -> Seen:
    reason = account.once(failed).answer.get("FailureReason")
    return Seen(str(reason) if reason in (_STEP_FAILURE, None) else "another text", str(reason))


def _steps_at_the_end(account: Account) -> Seen:
    steps = account.once(failed).steps
    return Seen(", ".join(sorted(f"{step.name} {step.status}" for step in steps)))


def _branch(account: Account) -> Seen:
    return Seen("listed" if account.once(succeeded).step("NotTaken") else "not listed")


def _outcome(account: Account) -> Seen:
    step = account.once(succeeded).step("Only")
    return Seen(str(step.outcome) if step else "the step is not listed")


def _completed_with_failures(account: Account) -> Seen:
    found = account.once(_caught)
    if isinstance(found, Refusal):
        return Seen(f"the pipeline is {told(found).value}", found.text)
    return Seen(status_of(found.answer), str(found.answer.get("FailureReason")))


def _catching_step(account: Account) -> Seen:
    found = account.once(_caught)
    if isinstance(found, Refusal):
        return Seen(f"the pipeline is {told(found).value}", found.text)
    steps = [step for step in (found.step("Broken"), found.step("Notify")) if step]
    reasons = [step.failure_reason for step in steps if step.failure_reason]
    return Seen(", ".join(f"{step.name} {step.status}" for step in steps), "; ".join(reasons))


def _others(found: End | Refusal) -> Seen:
    """Return whether steps that depend on no failed step begin after the failure."""
    if isinstance(found, Refusal):
        return Seen(f"the pipeline is {told(found).value}", found.text)
    broken = found.step("Broken")
    others = [step for step in found.steps if step.name.startswith("Step")]
    if broken is None or broken.ended_at is None:
        return Seen("no step has failed")
    later = [step for step in others if step.started_at and step.started_at > broken.ended_at]
    if not later and len(others) == definitions.OTHERS_LENGTH:
        raise NotCheckedError("the other steps had begun before the failure")
    return Seen("begin" if later else "do not begin", f"{len(others)} of {definitions.OTHERS_LENGTH} steps")


def _others_without_catch(account: Account) -> Seen:
    return _others(account.once(_uncaught))


def _others_with_catch(account: Account) -> Seen:
    return _others(account.once(_caught))


def _running_at_the_failure(account: Account) -> Seen:
    running = {str(step.status) for step in account.once(_uncaught).steps if step.name.startswith("Step")}
    return Seen(", ".join(sorted(running)))


def _end_time(account: Account) -> Seen:
    found = account.once(failed)
    step, modified = found.step("Third"), found.answer.get("LastModifiedTime")
    if step is None or step.ended_at is None or modified is None:
        return Seen("no time")
    seconds = (modified - step.ended_at).total_seconds()
    return within(abs(seconds), _CLOCK_SECONDS)


def _later_look(account: Account) -> Seen:
    found = account.once(failed)
    same = account.describe(found.arn).get("LastModifiedTime") == found.answer.get("LastModifiedTime")
    return Seen("kept" if same else "changed")


_OUTCOMES: Final = "docs/explanation/outcomes.md"
_STATES: Final = "polysync_airflow/states.py"
_ROWS: Final = "polysync_airflow/execution/steps/rows.py"
_ENGINE: Final = "emulator/sagemaker_emulator/engine/execution.py"
_STEP_RUNS: Final = "emulator/sagemaker_emulator/engine/step_runs.py"
_MODELS: Final = "polysync_airflow/execution/models.py"

_belief: Final = belief_maker("outcome")

BELIEFS: Final = (
    _belief(
        "statuses",
        "Executions end as Succeeded and Failed.",
        "Succeeded, Failed",
        _status,
        _STATES,
        _OUTCOMES,
    ),
    _belief(
        "fail-step",
        "The FailureReason of a Fail step is its message.",
        "the message of the step",
        _reason_of_step,
        "docs/how-to/read-a-failure.md",
        _ENGINE,
    ),
    _belief(
        "reason",
        "The FailureReason of the execution says only that steps have failed.",
        _STEP_FAILURE,
        _reason_of_execution,
        _ENGINE,
        "polysync_airflow/execution/outcome.py",
    ),
    _belief(
        "steps",
        "When the execution has ended, the list of steps has the final status of each.",
        "First Succeeded, Second Succeeded, Third Failed",
        _steps_at_the_end,
        "polysync_airflow/operators/results.py",
    ),
    _belief(
        "branch",
        "The steps of a branch that is not taken are not listed.",
        "not listed",
        _branch,
        _ROWS,
        _ENGINE,
    ),
    _belief(
        "condition",
        "The metadata of a Condition step have its outcome as True or False.",
        "True",
        _outcome,
        "polysync_airflow/execution/steps/descriptions.py",
    ),
    _belief(
        "completed-with-failures",
        "An execution whose failed step another step follows ends as CompletedWithFailures.",
        "CompletedWithFailures",
        _completed_with_failures,
        _STATES,
        _OUTCOMES,
        _STEP_RUNS,
    ),
    _belief(
        "catching-step",
        "A step with the trigger Failed runs after the failed step.",
        "Broken Failed, Notify Succeeded",
        _catching_step,
        _STEP_RUNS,
    ),
    _belief(
        "other-steps",
        "After a failure that no step follows, no other step begins.",
        "do not begin",
        _others_without_catch,
        _ENGINE,
    ),
    _belief(
        "running-steps",
        "The steps that run meanwhile go on to their own end.",
        "Succeeded",
        _running_at_the_failure,
        _ENGINE,
    ),
    _belief(
        "other-steps-after-catch",
        "After a failure that another step follows, other steps begin, too.",
        "begin",
        _others_with_catch,
        _STEP_RUNS,
    ),
    _belief(
        "end-time",
        "LastModifiedTime of an execution that has ended is the end of its last step.",
        limit_text(_CLOCK_SECONDS),
        _end_time,
        _MODELS,
        "docs/reference/xcoms.md",
    ),
    _belief(
        "end-time-later",
        "LastModifiedTime does not change after the end.",
        "kept",
        _later_look,
        _MODELS,
    ),
)
