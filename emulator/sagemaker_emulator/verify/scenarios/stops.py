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
    name, arn = account.start_chain("delete")
    answer = account.answer_to(
        account.call,
        "DeletePipeline",
        PipelineName=name,
        ClientRequestToken=account.token(),
    )
    # The execution may be deleted, so its status is not asked for. The older one has
    # the same steps, and has begun earlier: if it still runs, so did the other one.
    observed = account.if_still(older, answer, "Executing")
    # Nobody waits for their ends.
    account.answer_to(account.stop, older)
    account.answer_to(account.stop, arn)
    yield {"delete": observed}


def stops(account: Account) -> Observations:
    """Stop an execution several times."""
    _, arn = account.start_chain("stop", _STEPS)
    token = account.token()
    stop = partial(account.answer_to, account.stop, arn)
    stopped = account.if_still(arn, stop(token), *RUNNING, "Stopped")
    yield {"running": stopped}
    account.require_accepted("the stop", stopped)
    status = account.status(arn)
    yield {"stopping": account.observe(account.require_status, status, *RUNNING)}
    yield {"same-token": account.if_still(arn, stop(token), "Stopping")}
    yield {"other-token": account.if_still(arn, stop(), "Stopping")}
    if f"Step{_STEPS}" in [step["StepName"] for step in account.steps(arn)]:
        raise NotCheckedError("the last step had begun before the stop")
    end = account.wait_for_end(arn)
    yield {"stopped": end.status}
    account.require_status(end.status, "Stopped")
    # It must be listed: else there is nothing to observe.
    end.step("Step1")
    statuses = set(end.by_step("StepStatus").values())
    running = statuses & {"Executing", "Starting", "Stopping"}
    yield {"steps": one_of(running, "some", "none", ", ".join(sorted(statuses)))}
    answer = stop()
    if not isinstance(answer, Refusal):
        raise NotCheckedError("the stop of a stopped execution is not refused")
    has_words = _ONLY_EXECUTING in answer.detail
    yield {"text": one_of(has_words, "has the words", "has other words", answer.detail)}


def resumed(account: Account) -> Observations:
    """Stop an execution, and resume it."""
    _, arn = account.start_chain("stop-resume", _STEPS)
    token = account.token()
    stop = partial(account.answer_to, account.stop, arn)
    resume = partial(account.answer_to, account.resume, arn)
    account.require_accepted("the stop", stop(token))
    account.wait_for_end(arn, "Stopped")
    answer = resume()
    yield {"resume-of-stopped": answer}
    account.require_accepted("the resume", answer)
    account.require_status(account.status(arn), "Executing")
    stop(token)
    status = account.require_status(account.status(arn), *RUNNING, "Stopped")
    yield {
        "token-before-resume": one_of(
            status == "Executing", "goes on", "is stopped", f"status {status}"
        )
    }
    account.require_status(status, "Executing")
    yield {"resumed-end": account.wait_for_end(arn).status}


def refusals(account: Account) -> Observations:
    """Stop what cannot be stopped."""
    arn = account.start(account.create("stop-ended", definitions.succeeding()))
    yield {"missing": account.answer_to(account.stop, missing_execution(arn))}
    account.wait_for_end(arn, "Succeeded")
    yield {"ended": account.answer_to(account.stop, arn)}
