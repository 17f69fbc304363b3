"""
Stops: statuses, repeated tokens and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import RUNNING, Account, missing_execution
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Refusal,
    one_of,
)

# Enough to be stopped in between, and few enough to wait for all of them.
_STEPS: Final = 7
# Words of the text of AWS.
_ONLY_EXECUTING: Final = "Only pipelines with 'Executing' status can be stopped"


def deletion(account: Account) -> Observations:
    """
    Delete a pipeline with an execution that runs. It has no other checks: AWS may
    delete it.
    """
    older = account.start(account.create("delete-older", definitions.chain()))
    name, arn = account.begin("delete")
    request = {"PipelineName": name, "ClientRequestToken": account.token()}
    deleted = account.told(account.call, "DeletePipeline", **request)
    # It has the same steps, and has begun earlier: if it runs, so did the other one,
    # which may be deleted.
    observed = account.given(older, deleted, "Executing")
    # Nobody waits for their ends.
    for each in (older, arn):
        account.told(account.stop, each)
    yield {"delete": observed}


def stops(account: Account) -> Observations:
    """Stop an execution several times."""
    _, arn = account.begin("stop", _STEPS)
    token, stop = account.token(), partial(account.told, account.stop)
    stopped = account.given(arn, stop(arn, token), *RUNNING, "Stopped")
    yield {"running": stopped}
    account.require("the stop", stopped)
    status = account.status(arn)
    yield {"stopping": account.observe(account.expect, status, *RUNNING)}
    yield {"same-token": account.given(arn, stop(arn, token), "Stopping")}
    yield {"other-token": account.given(arn, stop(arn), "Stopping")}
    if f"Step{_STEPS}" in [step["StepName"] for step in account.steps(arn)]:
        raise NotCheckedError("the last step had begun before the stop")
    end = account.end(arn)
    yield {"stopped": end.status}
    account.expect(end.status, "Stopped")
    end.step("Step1")
    statuses = {*end.each("StepStatus").values()}
    running = statuses & {"Executing", "Starting", "Stopping"}
    yield {"steps": one_of(running, "some", "none", ", ".join(sorted(statuses)))}
    yield {"same-token-after-end": stop(arn, token)}
    answer = stop(arn)
    if not isinstance(answer, Refusal):
        raise NotCheckedError("the stop of a stopped execution is not refused")
    has_words = _ONLY_EXECUTING in answer.detail
    yield {"text": one_of(has_words, "has the words", "has other words", answer.detail)}


def resumed(account: Account) -> Observations:
    """Stop an execution, and resume it."""
    _, arn = account.begin("stop-resume", _STEPS)
    token, told = account.token(), account.told
    account.require("the stop", told(account.stop, arn, token))
    answer = told(account.resume, arn)
    yield {"resume-while-stopping": account.given(arn, answer, "Stopping")}
    if answer == "accepted":
        raise NotCheckedError("the execution was resumed before its end")
    account.end(arn, "Stopped")
    answer = told(account.resume, arn)
    yield {"resume-of-stopped": answer}
    account.require("the resume", answer)
    account.expect(account.status(arn), "Executing")
    told(account.stop, arn, token)
    status = account.expect(account.status(arn), *RUNNING, "Stopped")
    yield {
        "token-before-resume": one_of(
            status == "Executing", "goes on", "is stopped", f"status {status}"
        )
    }
    account.expect(status, "Executing")
    yield {"resumed-end": account.end(arn).status}


def refusals(account: Account) -> Observations:
    """Stop what cannot be stopped."""
    arn = account.start(account.create("stop-ended", definitions.succeeding()))
    yield {"missing": account.told(account.stop, missing_execution(arn))}
    account.end(arn, "Succeeded")
    yield {"ended": account.told(account.stop, arn)}
