"""
Ends of executions: statuses, reasons, steps and times.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
"""

from __future__ import annotations

from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, End
from sagemaker_emulator.verify.models import NotCheckedError, Observations, Observed, Seen, one_of, within

_STEP_FAILURE: Final = "Step failure: One or multiple steps failed."
_CLOCK_SECONDS: Final = 5.0


def failed(account: Account) -> End:
    """Run a pipeline that fails."""
    return account.run("failed", definitions.failing())


def succeeded(account: Account) -> End:
    """Run a pipeline that succeeds."""
    return account.run("succeeds", definitions.succeeding())


def ends(account: Account) -> Observations:
    """Look at an execution that has failed, and at one that has succeeded."""
    success, failure = account.once(succeeded), account.once(failed)
    third, only = failure.step("Third"), success.step("Only")
    text, reason = third.get("FailureReason"), failure.answer.get("FailureReason")
    modified, ended = failure.answer["LastModifiedTime"], third.get("EndTime")
    is_kept = account.describe(failure.arn)["LastModifiedTime"] == modified
    texts = ("the message of the step", "another text" if text else "no text")
    statuses = sorted(f"{name} {status}" for name, status in failure.each("StepStatus").items())
    is_known = reason in (_STEP_FAILURE, None)
    return {
        "statuses": f"{success.status}, {failure.status}",
        "fail-step": one_of(text == definitions.REASON, *texts, text),
        "reason": one_of(is_known, str(reason), "another text", reason),
        "steps": ", ".join(statuses),
        "branch": one_of(success.step("NotTaken"), "listed", "not listed"),
        "condition": str(only.get("Metadata", {}).get("Condition", {}).get("Outcome")),
        "end-time": within(abs((modified - ended).total_seconds()), _CLOCK_SECONDS) if ended else "no time",
        "end-time-later": one_of(is_kept, "kept", "changed"),
    }


def caught(account: Account) -> Observations:
    """Run a pipeline with a step that runs because another one has failed."""
    # An entry with a trigger: the SageMaker Python SDK's StepDependency.
    catching = definitions.condition("Notify", {"Step": "Broken", "Trigger": "Failed"})
    definition = definitions.failure_beside_others(account.function_arn(), catching)
    end = account.attempt(account.run, "caught", definition)
    if not isinstance(end, End):
        return dict.fromkeys(("completed-with-failures", "catching-step", "other-steps-after-catch"), end)
    steps = [step for step in map(end.step, ("Broken", "Notify")) if step]
    reasons = [step["FailureReason"] for step in steps if "FailureReason" in step]
    statuses = [f"{step['StepName']} {step['StepStatus']}" for step in steps]
    return {
        "completed-with-failures": Seen(end.status, str(end.answer.get("FailureReason"))),
        "catching-step": Seen(", ".join(statuses), "; ".join(reasons)),
        "other-steps-after-catch": _others(end),
    }


def uncaught(account: Account) -> Observations:
    """Run a pipeline with a step that fails while others run."""
    end = account.run("uncaught", definitions.failure_beside_others(account.function_arn()))
    running = {status for name, status in end.each("StepStatus").items() if name.startswith("Step")}
    return {"other-steps": _others(end), "running-steps": ", ".join(sorted(running))}


def _others(end: End) -> Observed:
    """Return whether steps that depend on no failed step begin after the failure."""
    failed_at = end.step("Broken").get("EndTime")
    begun = [at for name, at in end.each("StartTime").items() if name.startswith("Step")]
    if failed_at is None:
        return "no step has failed"
    later = [at for at in begun if at and at > failed_at]
    if not later and len(begun) == definitions.OTHERS_LENGTH:
        return NotCheckedError("the other steps had begun before the failure")
    return one_of(later, "begin", "do not begin", f"{len(begun)} of {definitions.OTHERS_LENGTH} steps")
