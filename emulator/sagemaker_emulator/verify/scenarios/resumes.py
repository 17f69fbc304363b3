"""
Resumes: which steps are repeated, tokens, and what an update of the pipeline changes.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import RUNNING, Account, missing_execution
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observations,
    Observed,
    Response,
    one_of,
)

# The end of the name of the function after the update.
_UPDATED: Final = "-after-update"
# A step begins within these seconds after a resume.
_BEGIN_SECONDS: Final = 3.0


def resumes(account: Account) -> Observations:
    """Start an execution that fails, update its pipeline, and resume it."""
    definition = definitions.failing(account.function_arn())
    name = account.create("resume", definition)
    arn = account.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    before = account.wait_for_end(arn, "Failed")
    account.update(name, definitions.failing(account.function_arn(_UPDATED)))

    def resume() -> Observation:
        return one_of(account.resume(arn) == arn, "the same", "another")

    resumed = account.observe(resume)
    yield {"failed": resumed}
    if resumed != Observation("the same"):
        account.require_accepted("the resume", resumed)

    status = account.status(arn)
    after = account.wait_for_end(arn)
    ended = before.by_step("EndTime")
    ended_again = after.by_step("EndTime")
    repeated = sorted(
        name for name, at in ended_again.items() if at not in (None, ended.get(name))
    )
    if repeated:
        yield {"status": account.observe(account.require_status, status, *RUNNING)}
    else:
        yield {"status": status}
        # Without a repeated step, this may still be the status before the resume.
        account.require_status(status, *RUNNING)
    yield {"repeated": ", ".join(repeated) or "none"}

    def shown_definition() -> Observation:
        response = account.call(
            "DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn
        )
        is_first = response["PipelineDefinition"] == definition
        return one_of(is_first, "that of the start", "another")

    yield {"shown-definition": account.observe(shown_definition)}
    is_kept = after.answer["CreationTime"] == before.answer["CreationTime"]
    yield {"creation-time": one_of(is_kept, "kept", "changed")}
    parallelism: Observed = NotCheckedError("the limit of the start is not shown")
    limit = before.answer.get("ParallelismConfiguration")
    if limit:
        is_same = after.answer.get("ParallelismConfiguration") == limit
        parallelism = one_of(is_same, "that of the start", "that of the pipeline")
    yield {"parallelism": parallelism}
    if "Third" not in repeated:
        raise NotCheckedError("the failed step is not repeated")
    third = after.step("Third")
    yield {
        "attempts": str(third.get("AttemptCount")),
        "definition": _observe_definition(account, third),
    }


def _observe_definition(account: Account, step: Response) -> Observed:
    """Observe the definition of which a repeated step has called the function."""
    # The function that was called is in the metadata, or in the reason why it was not.
    arn = step.get("Metadata", {}).get("Lambda", {}).get("Arn")
    text = f"{arn} {step.get('FailureReason')}"
    if account.function_arn() not in text:
        return NotCheckedError("the step does not show its function")
    return one_of(
        account.function_arn(_UPDATED) in text,
        "that of the update",
        "that of the start",
        text,
    )


def tokens(account: Account) -> Observations:
    """Resume an execution that fails again, several times."""
    definition = definitions.failing(account.function_arn())
    arn = account.run_to_end("resume-again", definition, "Failed").arn
    token = account.token()
    resume = partial(account.answer_to, account.resume, arn)
    account.require_accepted("the resume", resume(token))
    same_token = account.if_still(arn, resume(token), "Executing")
    other_token = account.if_still(arn, resume(), "Executing")
    attempts = account.wait_for_end(arn, "Failed").step("Third").get("AttemptCount", 0)
    if attempts > 2:
        # It had ended, and one of these requests has resumed it, so it was Executing.
        had_ended = NotCheckedError("the execution had ended")
        same_token = had_ended
        other_token = had_ended
    yield {"same-token": same_token, "other-token": other_token}

    def repeats(token: str) -> bool:
        """Resume the execution, and return whether steps have begun again."""
        before = account.wait_for_end(arn, "Failed")
        account.resume(arn, token)
        account.sleep(_BEGIN_SECONDS)
        after = account.wait_for_end(arn)
        return after.by_step("StartTime") != before.by_step("StartTime")

    def resume_with_same_token() -> Observation:
        return one_of(
            repeats(token),
            "accepted, and resumes again",
            "accepted, and resumes nothing",
        )

    def resume_with_new_token() -> Observation:
        return one_of(
            repeats(account.token()),
            "accepted, and repeats the failed step",
            "accepted, and repeats nothing",
        )

    yield {"same-token-after-end": account.observe(resume_with_same_token)}
    yield {"second": account.observe(resume_with_new_token)}


def refusals(account: Account) -> Observations:
    """Resume what cannot be resumed."""
    arn = account.start(account.create("resume-missing", definitions.succeeding()))
    yield {"missing": account.answer_to(account.resume, missing_execution(arn))}


def fail_step(account: Account) -> Observations:
    """Resume an execution that a Fail step has ended."""
    arn = account.run_to_end("resume-failstep", definitions.failing(), "Failed").arn
    yield {"fail-step": account.answer_to(account.resume, arn)}
