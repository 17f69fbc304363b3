"""
Stops: statuses, repeated tokens and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, missing_execution
from sagemaker_emulator.verify.models import NotCheckedError, Observations, Observed, one_of
from sagemaker_emulator.verify.scenarios.outcomes import succeeded

# Enough to be stopped in between, and few enough to wait for all of them.
_STEPS: Final = 7
# Words of the text of AWS.
_ONLY_EXECUTING: Final = "Only pipelines with 'Executing' status can be stopped"


def deletion(account: Account) -> Observations:
    """Delete a pipeline with an execution that runs. It has no other checks: AWS may delete it."""
    name = account.create("delete", definitions.chain())
    arn = account.start(name)
    request = {"PipelineName": name, "ClientRequestToken": account.token()}
    deleted = account.told(account.call, "DeletePipeline", **request)
    # Nobody waits for its end.
    account.told(account.stop, arn)
    return {"delete": deleted}


def stops(account: Account) -> Observations:
    """Stop an execution several times, and resume it; ``as-source`` selects its steps meanwhile."""
    name = account.create("stop", definitions.chain(length=_STEPS))
    arn, token = account.start(name), account.token()
    stop, resume = partial(account.told, account.stop), partial(account.told, account.resume)

    def has_second_step() -> bool:
        return account.is_found(arn) and "Step2" in [step["StepName"] for step in account.steps(arn)]

    # The first one has succeeded then.
    account.wait_for("The second step of an execution", has_second_step, pause=0.3)
    found: dict[str, Observed] = {
        "running": stop(arn, token),
        "stopping": account.status(arn),
        "same-token": stop(arn, token),
        "other-token": stop(arn),
        "resume-while-stopping": resume(arn),
    }
    end = account.end(arn)
    statuses = {*end.each("StepStatus").values()}
    running = statuses & {"Executing", "Starting", "Stopping"}
    after_end = stop(arn)
    source = {"SelectedSteps": [{"StepName": "Step2"}], "SourcePipelineExecutionArn": arn}
    found |= {
        "stopped": end.status,
        "steps": one_of(running, "some", "none", ", ".join(sorted(statuses))),
        "same-token-after-end": stop(arn, token),
        "text": one_of(_ONLY_EXECUTING in str(after_end), "has the words", "has other words", after_end),
        "missing": stop(missing_execution(arn)),
        "as-source": account.told(account.start, name, SelectiveExecutionConfig=source),
        # Last, because the execution runs then.
        "resume-of-stopped": resume(arn),
    }
    found |= _after_resume(account, arn, token, found["resume-of-stopped"])
    return {**found, "ended": stop(account.once(succeeded).arn)}


def _after_resume(account: Account, arn: str, token: str, resume: Observed) -> Observations:
    if resume != "accepted":
        reason = NotCheckedError("the stopped execution is not resumed")
        return {"token-before-resume": reason, "resumed-end": reason}
    account.told(account.stop, arn, token)
    status = account.status(arn)
    return {
        "token-before-resume": one_of(status == "Executing", "goes on", "is stopped", f"status {status}"),
        "resumed-end": account.end(arn).status,
    }
