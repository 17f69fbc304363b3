"""
Resumes: which steps are repeated, tokens, and what an update of the pipeline changes.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, End, missing_execution
from sagemaker_emulator.verify.models import Observations, Observed, Response, Seen, one_of
from sagemaker_emulator.verify.scenarios.outcomes import failed, succeeded

# The end of the name of the function after the update.
_UPDATED: Final = "-after-update"


def resumes(account: Account) -> Observations:
    """Start an execution that fails, update its pipeline, and resume it twice."""
    definition = definitions.failing(account.function_arn())
    name = account.create("resume", definition)
    arn = account.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    before = account.end(arn)
    account.update(name, definitions.failing(account.function_arn(_UPDATED)))
    token = account.token()
    resume = partial(account.told, account.resume)
    found: dict[str, Observed] = {
        "failed": account.attempt(lambda: "the same" if account.resume(arn, token) == arn else "another"),
        "status": account.status(arn),
        "same-token": resume(arn, token),
        "other-token": resume(arn),
    }
    after = account.end(arn)

    def again() -> Observed:
        account.resume(arn, token)
        is_resumed = account.status(arn) == "Executing"
        return one_of(is_resumed, "accepted, and resumes again", "accepted, and resumes nothing")

    def second() -> Observed:
        begun = account.end(account.resume(arn)).step("Third").get("StartTime")
        is_repeated = begun != after.step("Third").get("StartTime")
        return one_of(is_repeated, "accepted, and repeats the failed step", "accepted, and repeats nothing")

    found |= {"same-token-after-end": account.attempt(again), "second": account.attempt(second)}
    shown = account.call("DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn)
    is_shown = shown["PipelineDefinition"] == definition
    return {
        **found,
        **_compared(before, after),
        "definition": _definition(account, after.step("Third")),
        "shown-definition": one_of(is_shown, "that of the start", "another"),
        "missing": resume(missing_execution(arn)),
        "succeeded": resume(account.once(succeeded).arn),
        "fail-step": resume(account.once(failed).arn),
    }


def _compared(before: End, after: End) -> Observations:
    """Compare the first end with that after the first resume."""
    begun = before.each("StartTime")
    repeated = sorted(name for name, at in after.each("StartTime").items() if at != begun.get(name))
    is_kept = after.answer["CreationTime"] == before.answer["CreationTime"]
    limit, limit_after = (end.answer.get("ParallelismConfiguration") for end in (before, after))
    other = "that of the pipeline" if limit else "not shown"
    return {
        "repeated": ", ".join(repeated) or "none",
        "attempts": str(after.step("Third").get("AttemptCount")),
        "creation-time": one_of(is_kept, "kept", "changed"),
        "parallelism": one_of(limit and limit == limit_after, "that of the start", other),
    }


def _definition(account: Account, step: Response) -> Observed:
    # The function that was called is in the metadata, or in the reason why it was not.
    arn = step.get("Metadata", {}).get("Lambda", {}).get("Arn")
    text = f"{arn} {step.get('FailureReason')}"
    if account.function_arn() not in text:
        return Seen("the function is not shown", text)
    return one_of(account.function_arn(_UPDATED) in text, "that of the update", "that of the start", text)
