"""
Events of EventBridge about an execution and its steps, in a queue that the template
``docs/assets/sagemaker-events.yaml`` sets up.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import RUNNING, Account
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Observed,
    one_of,
    within,
)
from sagemaker_emulator.verify.scenarios.inbox import DELAY_SECONDS, Inbox, Message

# A duplicate, or the event of a step, may come a little later than the end.
_POLLS_AFTERWARDS: Final = 5
_NO_EVENT: Final = "no event"
_STATUS: Final = "currentPipelineExecutionStatus"
_STEP_STATUS: Final = "currentStepStatus"
_PREVIOUS: Final = "previousPipelineExecutionStatus"
_END: Final = "executionEndTime"
_MEMBERS: Final = (
    _PREVIOUS,
    "pipelineExecutionDisplayName",
    "executionStartTime",
    _END,
)
_STEP_MEMBERS: Final = (
    "previousStepStatus",
    "failureReason",
    "stepStartTime",
    "stepEndTime",
)


def events(account: Account) -> Observations:
    """Read the events about an execution that fails, and is resumed."""
    inbox = account.once(Inbox)
    name = account.create("events", definitions.failing(account.function_arn()))
    arn = account.wait_for_end(account.start(name), "Failed").arn
    ended_at = account.now()
    try:
        if inbox.receive_until(lambda: bool(_ends(inbox, arn))):
            for _ in range(_POLLS_AFTERWARDS):
                account.sleep()
                inbox.receive()
        changes = inbox.about(arn, _STATUS)
        ends = _ends(inbox, arn)
        yield {
            **_observe_step(inbox.about(arn, _STEP_STATUS)),
            "begin": _observe_begin(changes),
        }
        if not changes:
            raise NotCheckedError(
                "no event has come: does a rule of EventBridge send them to the queue?"
            )
        if not ends:
            yield {"end": _NO_EVENT}
            raise NotCheckedError("no event of the end has come")
        yield {"end": ends[0].content[_STATUS]}
        yield _observe_end(ends, ended_at)

        account.require_accepted("the resume", account.answer_to(account.resume, arn))
        account.wait_for_end(arn)
        if not inbox.receive_until(lambda: len(_ends(inbox, arn)) > len(ends)):
            yield {"resumed": _NO_EVENT}
            return
        is_another = _end_times(_ends(inbox, arn)) > _end_times(ends)
        yield {"resumed": one_of(is_another, "another change", "the same change")}
    finally:
        inbox.give_back()


def _ends(inbox: Inbox, arn: str) -> list[Message]:
    """Return the events about the end of an execution."""
    return [
        message
        for message in inbox.about(arn, _STATUS)
        if message.content[_STATUS] not in RUNNING
    ]


def _observe_begin(changes: list[Message]) -> Observed:
    for change in changes:
        status = str(change.content[_STATUS])
        if status in RUNNING:
            return status
    return NotCheckedError(
        "no event of a begin has come: Running=true of sagemaker-events.yaml sends them"
    )


def _observe_end(ends: list[Message], ended_at: float) -> dict[str, Observed]:
    duplicates: Observed = NotCheckedError("only one event of the end has come")
    if len(ends) > 1:
        is_one = len(_end_times(ends)) == 1
        duplicates = one_of(is_one, "one", "several", f"{len(ends)} events")
    return {
        "members": _members_with_value(ends[0].content, _MEMBERS),
        "delay": within(max(0.0, ends[0].at - ended_at), DELAY_SECONDS),
        "duplicates": duplicates,
    }


def _end_times(ends: list[Message]) -> set[object]:
    # An execution that is resumed keeps its ARN, so its ends differ in the time.
    return {end.content.get(_END) for end in ends}


def _observe_step(messages: list[Message]) -> dict[str, Observed]:
    """Observe the event about the end of the step that fails."""
    for message in messages:
        content = message.content
        if content.get("stepName") != "Third" or "stepEndTime" not in content:
            continue
        return {
            "step": f"Third, {content.get('stepType')}, {content[_STEP_STATUS]}",
            "step-members": _members_with_value(content, _STEP_MEMBERS),
        }
    reason = NotCheckedError(
        "no event of a step has come: Steps=true of sagemaker-events.yaml sends them"
    )
    return {"step": reason, "step-members": reason}


def _members_with_value(content: dict[str, Any], members: Iterable[str]) -> str:
    with_value = [member for member in members if content.get(member)]
    return ", ".join(with_value) or "none of them"
