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
        "cache-hit": reused_from(only, "CacheHitResult"),
        "selective-result": reused_from(only, "SelectiveExecutionResult"),
        "first-attempt": str(only.get("AttemptCount")),
    }
    account.require_status(failure.status, "Failed")

    reason = failure.answer.get("FailureReason")
    if reason in (_STEP_FAILURE, None):
        yield {"reason": Observation(str(reason), str(reason))}
    else:
        yield {"reason": Observation("another text", str(reason))}
    modified = failure.answer["LastModifiedTime"]
    account.sleep(_LATER_SECONDS)
    is_kept = account.describe(failure.arn)["LastModifiedTime"] == modified
    yield {"end-time-later": one_of(is_kept, "kept", "changed")}
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
        end_time = within(seconds, _CLOCK_SECONDS)
    yield {"end-time": end_time}


def reused_from(step: Response, member: str) -> str:
    """Return what a step says of the execution whose result it has."""
    arn = step.get(member, {}).get("SourcePipelineExecutionArn")
    if arn is None:
        return "no ARN"
    if arn == "":
        return "an empty ARN"
    return f"the ARN {arn}"


def caught(account: Account) -> Observations:
    """Run a pipeline with a step that runs because another one has failed."""
    # An entry with a trigger: the SageMaker Python SDK's StepDependency.
    catching = definitions.condition("Notify", {"Step": "Broken", "Trigger": "Failed"})
    definition = definitions.failure_beside_others(account.function_arn(), catching)
    end = account.attempt(account.run_to_end, "caught", definition)
    if not isinstance(end, End):
        yield {"catching-step": end}
        raise NotCheckedError(f"a step with the trigger Failed is {end}")
    failed_at = _failure_time(end)
    statuses = [
        f"{name} {end.steps[name]['StepStatus']}"
        for name in ("Broken", "Notify")
        if name in end.steps
    ]
    reason = str(end.answer.get("FailureReason"))
    yield {"completed-with-failures": Observation(end.status, reason)}
    step_reason = str(end.step("Broken").get("FailureReason"))
    yield {"catching-step": Observation(", ".join(statuses), step_reason)}
    yield {"other-steps-after-catch": _observe_others(end, failed_at)}


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
    yield {
        "other-steps": _observe_others(end, failed_at),
        "running-steps": running_steps,
    }


def _failure_time(end: End) -> Any:
    """
    Return when the step Broken has failed.

    :raises NotCheckedError: it has not.
    """
    broken = end.step("Broken")
    if broken["StepStatus"] != "Failed":
        raise NotCheckedError(f"the step Broken is {broken['StepStatus']}")
    return broken["EndTime"]


def _observe_others(end: End, failed_at: Any) -> Observed:
    """Observe whether steps that depend on no failed step begin after the failure."""
    begun = [
        at for name, at in end.by_step("StartTime").items() if name.startswith("Step")
    ]
    later = [at for at in begun if at and at > failed_at]
    if not later and len(begun) in (0, definitions.OTHERS_LENGTH):
        return NotCheckedError(
            "before the failure, none of the other steps had begun, or all of them"
        )
    return one_of(
        later,
        "begin",
        "do not begin",
        f"{len(begun)} of {definitions.OTHERS_LENGTH} steps",
    )
