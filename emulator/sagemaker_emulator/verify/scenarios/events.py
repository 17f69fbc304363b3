"""
Events of EventBridge about an execution and its steps, in a queue of ``polysync events
setup``.

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
_LOOKS_AFTERWARDS: Final = 5
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
    box = account.once(Inbox)
    name = account.create("events", definitions.failing(account.function_arn()))
    arn = account.end(account.start(name), "Failed").arn
    ended_at = account.now()
    try:
        for _ in range(
            _LOOKS_AFTERWARDS if box.look_for(lambda: bool(_ends(box, arn))) else 0
        ):
            account.sleep()
            box.receive()
        changes, ends = (
            [each.content for each in box.about(arn, _STATUS)],
            _ends(box, arn),
        )
        yield {
            **_of_step([each.content for each in box.about(arn, _STEP_STATUS)]),
            "begin": _begin(changes),
        }
        if not changes:
            raise NotCheckedError(
                "no event has come: does polysync events setup send them to the queue?"
            )
        yield {"end": ends[0].content[_STATUS] if ends else _NO_EVENT}
        if not ends:
            raise NotCheckedError("no event of the end has come")
        yield _of_end(ends, ended_at)
        account.require("the resume", account.told(account.resume, arn))
        account.end(arn)
        is_there = box.look_for(lambda: len(_ends(box, arn)) > len(ends))
        is_another = _times(_ends(box, arn)) > _times(ends)
        change = one_of(is_another, "another change", "the same change")
        yield {"resumed": change if is_there else _NO_EVENT}
    finally:
        box.give_back()


def _ends(box: Inbox, arn: str) -> list[Message]:
    return [
        each for each in box.about(arn, _STATUS) if each.content[_STATUS] not in RUNNING
    ]


def _begin(changes: list[dict[str, Any]]) -> Observed:
    begins = [each for each in changes if each[_STATUS] in RUNNING]
    if not begins:
        return NotCheckedError(
            "no event of a begin has come: polysync events setup --running sends them"
        )
    return (
        f"{begins[0][_STATUS]}, {'with' if begins[0].get(_PREVIOUS) else 'without'} a"
        " status before"
    )


def _of_end(ends: list[Message], ended_at: float) -> dict[str, Observed]:
    changes = one_of(len(_times(ends)) == 1, "one", "several", f"{len(ends)} events")
    return {
        "members": _those_with_a_value(ends[0].content, _MEMBERS),
        "delay": within(max(0.0, ends[0].at - ended_at), DELAY_SECONDS),
        "duplicates": (
            changes
            if len(ends) > 1
            else NotCheckedError("only one event of the end has come")
        ),
    }


def _times(ends: list[Message]) -> set[object]:
    # An execution that is resumed keeps its ARN, so the time makes the change.
    return {each.content.get(_END) for each in ends}


def _of_step(steps: list[dict[str, Any]]) -> dict[str, Observed]:
    ends = [
        each
        for each in steps
        if each.get("stepName") == "Third" and "stepEndTime" in each
    ]
    if not ends:
        reason = NotCheckedError(
            "no event of a step has come: polysync events setup --steps sends them"
        )
        return {"step": reason, "step-members": reason}
    end = ends[0]
    return {
        "step": f"{end['stepName']}, {end.get('stepType')}, {end[_STEP_STATUS]}",
        "step-members": _those_with_a_value(end, _STEP_MEMBERS),
    }


def _those_with_a_value(content: dict[str, Any], members: Iterable[str]) -> str:
    return (
        ", ".join(member for member in members if content.get(member)) or "none of them"
    )
