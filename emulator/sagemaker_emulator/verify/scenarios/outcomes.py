"""
Ends of executions: statuses, reasons, steps and times.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
"""

from __future__ import annotations

from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, End
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observations,
    Observed,
    Response,
    one_of,
    within,
)

_STEP_FAILURE: Final = "Step failure: One or multiple steps failed."
_CLOCK_SECONDS: Final = 5.0
_LATER_SECONDS: Final = 3.0


def failed(account: Account) -> End:
    """Run a pipeline that fails."""
    return account.run_to_end("failed", definitions.failing())


def succeeded(account: Account) -> End:
    """Run a pipeline that succeeds."""
    return account.run_to_end("succeeds", definitions.succeeding())


def ends(account: Account) -> Observations:
    """Look at an execution that has failed, and at one that has succeeded."""
    success = account.once(succeeded)
    failure = account.once(failed)
    yield {"statuses": f"{success.status}, {failure.status}"}
    only = success.step("Only")
    condition = only.get("Metadata", {}).get("Condition", {})
    yield {
        "branch": one_of("NotTaken" in success.steps, "listed", "not listed"),
        "condition": str(condition.get("Outcome")),
    }
    yield {
        "cache-hit": reused_from(only, "CacheHitResult") or "none",
        "selective-result": reused_from(only, "SelectiveExecutionResult") or "none",
        "first-attempt": str(only.get("AttemptCount")),
    }
    account.require_status(failure.status, "Failed")

    reason = failure.answer.get("FailureReason")
    if reason in (_STEP_FAILURE, None):
        yield {"reason": Observation(str(reason), str(reason))}
    else:
        yield {"reason": Observation("another text", str(reason))}
    modified = failure.answer["LastModifiedTime"]
    statuses = sorted(
        f"{name} {status}" for name, status in failure.by_step("StepStatus").items()
    )
    yield {"steps": ", ".join(statuses)}

    step = failure.step("Third")
    step_reason = step.get("FailureReason")
    if step_reason == definitions.REASON:
        seen_reason = "the message of the step"
    elif step_reason:
        seen_reason = "another text"
    else:
        seen_reason = "no text"
    yield {"fail-step": Observation(seen_reason, str(step_reason))}
    end_time: Observed = "no time"
    if step.get("EndTime"):
        seconds = abs((modified - step["EndTime"]).total_seconds())
        near = within(seconds, _CLOCK_SECONDS)
        account.sleep(_LATER_SECONDS)
        is_kept = account.describe(failure.arn)["LastModifiedTime"] == modified
        kept = one_of(is_kept, "kept", "changed later")
        end_time = Observation(f"{near}, and {kept}", near.detail)
    yield {"end-time": end_time}


def reused_from(step: Response, member: str) -> str:
    """Return the ARN of the execution whose result a step has; empty for none."""
    return str(step.get(member, {}).get("SourcePipelineExecutionArn") or "")


def caught(account: Account) -> Observations:
    """Run a pipeline with a step that runs because another one has failed."""
    # An entry with a trigger: the SageMaker Python SDK's StepDependency.
    catching = definitions.condition("Notify", {"Step": "Broken", "Trigger": "Failed"})
    definition = definitions.failure_beside_others(account.function_arn(), catching)
    end = account.attempt(account.run_to_end, "caught", definition)
    if not isinstance(end, End):
        yield {"catching-step": end}
        raise NotCheckedError(f"a step with the trigger Failed is {end}")
    # It must have failed: else there is nothing to observe.
    _failure_time(end)
    statuses = [
        f"{name} {end.steps[name]['StepStatus']}"
        for name in ("Broken", "Notify")
        if name in end.steps
    ]
    reason = str(end.answer.get("FailureReason"))
    yield {"completed-with-failures": Observation(end.status, reason)}
    step_reason = str(end.step("Broken").get("FailureReason"))
    yield {"catching-step": Observation(", ".join(statuses), step_reason)}


def uncaught(account: Account) -> Observations:
    """Run a pipeline with a step that fails while others run."""
    end = account.run_to_end(
        "uncaught", definitions.failure_beside_others(account.function_arn())
    )
    failed_at = _failure_time(end)
    running = {
        step["StepStatus"]
        for name, step in end.steps.items()
        if name.startswith("Step")
        and step["StartTime"] <= failed_at <= step.get("EndTime", failed_at)
    }
    running_steps: Observed = NotCheckedError("no other step ran when the step failed")
    if running:
        running_steps = ", ".join(sorted(running))
    yield {"running-steps": running_steps}


def _failure_time(end: End) -> Any:
    """
    Return when the step Broken has failed.

    :raises NotCheckedError: it has not.
    """
    broken = end.step("Broken")
    if broken["StepStatus"] != "Failed":
        raise NotCheckedError(f"the step Broken is {broken['StepStatus']}")
    return broken["EndTime"]
