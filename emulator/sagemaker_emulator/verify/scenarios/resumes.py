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
    Observations,
    Observed,
    Response,
    Seen,
    one_of,
)

# The end of the name of the function after the update.
_UPDATED: Final = "-after-update"
# A step begins within these after a resume.
_BEGIN_SECONDS: Final = 3.0


def resumes(account: Account) -> Observations:
    """Start an execution that fails, update its pipeline, and resume it."""
    definition = definitions.failing(account.function_arn())
    name = account.create("resume", definition)
    arn = account.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": 1})
    before = account.end(arn, "Failed")
    account.update(name, definitions.failing(account.function_arn(_UPDATED)))
    answer = account.observe(
        lambda: "the same" if account.resume(arn) == arn else "another"
    )
    yield {"failed": answer}
    account.require("the resume", "accepted" if answer == "the same" else answer)
    status, after = account.status(arn), account.end(arn)
    ended, ended_again = (end.each("EndTime") for end in (before, after))
    repeated = sorted(
        name for name, at in ended_again.items() if at not in (None, ended.get(name))
    )
    yield {
        "status": account.observe(account.expect, status, *RUNNING)
        if repeated
        else status
    }
    # Otherwise, what was seen may be the first end.
    account.expect("Executing" if repeated else status, *RUNNING)
    yield {"repeated": ", ".join(repeated) or "none"}

    def shown() -> Seen:
        response = account.call(
            "DescribePipelineDefinitionForExecution", PipelineExecutionArn=arn
        )
        return one_of(
            response["PipelineDefinition"] == definition, "that of the start", "another"
        )

    yield {"shown-definition": account.observe(shown)}
    is_kept = after.answer["CreationTime"] == before.answer["CreationTime"]
    limits = [end.answer.get("ParallelismConfiguration") for end in (before, after)]
    limit = one_of(limits[0] == limits[1], "that of the start", "that of the pipeline")
    yield {"creation-time": one_of(is_kept, "kept", "changed")}
    yield {
        "parallelism": limit
        if limits[0]
        else NotCheckedError("the limit of the start is not shown")
    }
    if "Third" not in repeated:
        raise NotCheckedError("the failed step is not repeated")
    third = after.step("Third")
    yield {
        "attempts": str(third.get("AttemptCount")),
        "definition": _definition(account, third),
    }


def _definition(account: Account, step: Response) -> Observed:
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
    arn = account.run(
        "resume-again", definitions.failing(account.function_arn()), "Failed"
    ).arn
    token, told = account.token(), partial(account.told, account.resume)
    account.require("the resume", told(arn, token))
    found = {"same-token": account.given(arn, told(arn, token), "Executing")}
    found["other-token"] = account.given(arn, told(arn), "Executing")
    # An execution that had ended meanwhile, and was resumed by one of these, runs, too.
    attempts = account.end(arn, "Failed").step("Third").get("AttemptCount", 0)
    yield (
        dict.fromkeys(found, NotCheckedError("the execution had ended"))
        if attempts > 2
        else found
    )

    def is_repeated(*token: str) -> bool:
        before = account.end(arn, "Failed")
        account.resume(arn, *token)
        account.sleep(_BEGIN_SECONDS)
        return account.end(arn).each("StartTime") != before.each("StartTime")

    texts = ("accepted, and resumes again", "accepted, and resumes nothing")
    yield {
        "same-token-after-end": account.observe(
            lambda: one_of(is_repeated(token), *texts)
        )
    }
    texts = ("accepted, and repeats the failed step", "accepted, and repeats nothing")
    yield {"second": account.observe(lambda: one_of(is_repeated(), *texts))}


def refusals(account: Account) -> Observations:
    """Resume what cannot be resumed."""
    arn = account.start(account.create("resume-ended", definitions.succeeding()))
    yield {"missing": account.told(account.resume, missing_execution(arn))}
    account.end(arn, "Succeeded")
    yield {"succeeded": account.told(account.resume, arn)}


def fail_step(account: Account) -> Observations:
    """Resume an execution that a Fail step has ended."""
    arn = account.run("resume-failstep", definitions.failing(), "Failed").arn
    yield {"fail-step": account.told(account.resume, arn)}
