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
    Observations,
    Observed,
    Seen,
    one_of,
    within,
)

_STEP_FAILURE: Final = "Step failure: One or multiple steps failed."
_CLOCK_SECONDS: Final = 5.0
_LATER_SECONDS: Final = 3.0


def failed(account: Account) -> End:
    """Run a pipeline that fails."""
    return account.run("failed", definitions.failing())


def succeeded(account: Account) -> End:
    """Run a pipeline that succeeds."""
    return account.run("succeeds", definitions.succeeding())


def ends(account: Account) -> Observations:
    """Look at an execution that has failed, and at one that has succeeded."""
    success, failure = account.once(succeeded), account.once(failed)
    yield {"statuses": f"{success.status}, {failure.status}"}
    outcome = (
        success.step("Only").get("Metadata", {}).get("Condition", {}).get("Outcome")
    )
    yield {
        "branch": one_of("NotTaken" in success.steps, "listed", "not listed"),
        "condition": str(outcome),
    }
    account.expect(failure.status, "Failed")
    reason, modified = (
        failure.answer.get("FailureReason"),
        failure.answer["LastModifiedTime"],
    )
    is_known = reason in (_STEP_FAILURE, None)
    yield {"reason": one_of(is_known, str(reason), "another text", reason)}
    account.sleep(_LATER_SECONDS)
    is_kept = account.describe(failure.arn)["LastModifiedTime"] == modified
    yield {"end-time-later": one_of(is_kept, "kept", "changed")}
    statuses = sorted(
        f"{name} {status}" for name, status in failure.each("StepStatus").items()
    )
    yield {"steps": ", ".join(statuses)}
    text, ended = (
        failure.step("Third").get(member) for member in ("FailureReason", "EndTime")
    )
    texts = ("the message of the step", "another text" if text else "no text")
    yield {"fail-step": one_of(text == definitions.REASON, *texts, text)}
    seconds = abs((modified - ended).total_seconds()) if ended else None
    yield {
        "end-time": "no time" if seconds is None else within(seconds, _CLOCK_SECONDS)
    }


def caught(account: Account) -> Observations:
    """Run a pipeline with a step that runs because another one has failed."""
    # An entry with a trigger: the SageMaker Python SDK's StepDependency.
    catching = definitions.condition("Notify", {"Step": "Broken", "Trigger": "Failed"})
    definition = definitions.failure_beside_others(account.function_arn(), catching)
    end = account.attempt(account.run, "caught", definition)
    if not isinstance(end, End):
        yield {"catching-step": end}
        raise NotCheckedError(f"a step with the trigger Failed is {end}")
    failed_at = _failure(end)
    both = [end.steps[name] for name in ("Broken", "Notify") if name in end.steps]
    statuses = ", ".join(f"{step['StepName']} {step['StepStatus']}" for step in both)
    yield {
        "completed-with-failures": Seen(
            end.status, str(end.answer.get("FailureReason"))
        )
    }
    yield {"catching-step": Seen(statuses, str(both[0].get("FailureReason")))}
    yield {"other-steps-after-catch": _others(end, failed_at)}


def uncaught(account: Account) -> Observations:
    """Run a pipeline with a step that fails while others run."""
    end = account.run(
        "uncaught", definitions.failure_beside_others(account.function_arn())
    )
    failed_at = _failure(end)
    running = {
        step["StepStatus"]
        for name, step in end.steps.items()
        if name.startswith("Step")
        and step["StartTime"] <= failed_at <= step.get("EndTime", failed_at)
    }
    none = NotCheckedError("no other step ran when the step failed")
    yield {
        "other-steps": _others(end, failed_at),
        "running-steps": ", ".join(sorted(running)) or none,
    }


def _failure(end: End) -> Any:
    """Return when the step has failed that must fail, or nothing can be observed."""
    broken = end.step("Broken")
    if broken["StepStatus"] != "Failed":
        raise NotCheckedError(f"the step Broken is {broken['StepStatus']}")
    return broken["EndTime"]


def _others(end: End, failed_at: Any) -> Observed:
    """Return whether steps that depend on no failed step begin after the failure."""
    begun = [
        at for name, at in end.each("StartTime").items() if name.startswith("Step")
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
