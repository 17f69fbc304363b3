"""
Callback steps: their messages, and the answers to them. They only wait, so they cost
nothing.

Whoever knows the token of such a step can end it, so it is one of the secrets of the
run.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import json
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
from sagemaker_emulator.verify.scenarios.inbox import DELAY_SECONDS, Inbox

_STEP: Final = "Ask"
# Of the messages of the step.
_MEMBER: Final = "arguments"
_REASON: Final = "polysync verify: the answer is no"
_YES: Final[dict[str, Any]] = {"OutputParameters": [{"Name": "answer", "Value": "yes"}]}
_NO: Final[dict[str, Any]] = {"FailureReason": _REASON}
# Longer than the stop of an execution takes that has no callback step.
_STOP_SECONDS: Final = 30.0
# A token has ten characters:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CallbackStepMetadata.html
_UNKNOWN_TOKEN: Final = "0" * 10


def _ask(account: Account, subject: str) -> tuple[str, str, float]:
    """
    Start an execution, and wait for the message of its callback step.

    :return: its ARN, the token of the step, and when that was seen.
    """
    # An error if nobody may answer: the step would wait for seven days, and its
    # pipeline with it.
    if isinstance(refusal := account.once(_answer_nothing), NotCheckedError):
        raise refusal
    box = account.once(Inbox)
    arn = account.start(
        account.create(subject, definitions.callback(account.options["--queue-url"]))
    )

    def token() -> str:
        """Return the token of the step while it waits for its answer."""
        step = _step(account, arn)
        found = step.get("Metadata", {}).get("Callback", {}).get("CallbackToken", "")
        return str(found) if step.get("StepStatus") in RUNNING else ""

    def has_begun() -> bool:
        return account.has_ended(arn) or (account.is_found(arn) and token() != "")

    account.wait_for("The token of a callback step", has_begun)
    begin, first = account.now(), token()
    account.session.secrets.append(first)
    box.look_for(lambda: bool(box.about(arn, _MEMBER)) or not token())
    if not first or not (box.about(arn, _MEMBER) or token()):
        reason = _step(account, arn).get("FailureReason")
        raise NotCheckedError(
            f"the step has ended: {reason}; may the role send messages to the queue?"
        )
    return arn, first, begin


def _step(account: Account, arn: str) -> Any:
    return next((step for step in account.steps(arn) if step["StepName"] == _STEP), {})


def _answer(account: Account, token: str, answer: dict[str, Any]) -> Observed:
    kind = "Success" if answer is _YES else "Failure"
    # The same token for the same answer.
    request = {
        "CallbackToken": token,
        "ClientRequestToken": f"polysync-verify-{kind}-{token}".ljust(32, "-"),
    }
    return account.told(
        account.call, f"SendPipelineExecutionStep{kind}", **request, **answer
    )


def answered(account: Account) -> Observations:
    """Answer a callback step, several times."""
    try:
        arn, token, begin = _ask(account, "callback")
        yield {"status": str(_step(account, arn).get("StepStatus"))}
        yield _of_message(account, arn, token, begin)
        success = _answer(account, token, _YES)
        yield {"success": success}
        account.require("the answer", success)
        yield {"same-answer": _answer(account, token, _YES)}
        yield {"other-answer": _answer(account, token, _NO)}
        end = account.end(arn)
        yield {
            "next-step": end.status,
            "same-answer-after-end": _answer(account, token, _YES),
        }
    finally:
        account.once(Inbox).give_back()
    outputs = (
        end.step(_STEP)
        .get("Metadata", {})
        .get("Callback", {})
        .get("OutputParameters", [])
    )
    yield {
        "outputs": json.dumps(
            {each["Name"]: each["Value"] for each in outputs}, sort_keys=True
        )
    }


def _of_message(
    account: Account, arn: str, token: str, begin: float
) -> dict[str, Observed]:
    messages = account.once(Inbox).about(arn, _MEMBER)
    if not messages:
        none = NotCheckedError("the step has sent no message")
        return {"token": none, "inputs": none, "delay": "no message"}
    content = messages[0].content
    sent = one_of("token" in content, "another token", "no token")
    return {
        "token": "the token of the step" if content.get("token") == token else sent,
        "inputs": json.dumps(content.get(_MEMBER), sort_keys=True),
        "delay": within(max(0.0, messages[0].at - begin), DELAY_SECONDS),
    }


def failed(account: Account) -> Observations:
    """Answer a callback step with a failure."""
    arn, token, _ = _ask(account, "callback-failed")
    account.require("the answer", _answer(account, token, _NO))
    step = account.end(arn).step(_STEP)
    status, reason = step.get("StepStatus"), step.get("FailureReason")
    texts = (f"{status}, with the reason", f"{status}, with another reason")
    yield {"failure": one_of(reason == _REASON, *texts, reason)}


def unknown_token(account: Account) -> Observations:
    """Answer with a token that AWS does not know."""
    yield {"unknown-token": account.once(_answer_nothing)}


def _answer_nothing(account: Account) -> Observed:
    return _answer(account, _UNKNOWN_TOKEN, _NO)


def stopped(account: Account) -> Observations:
    """Stop an execution while its callback step waits."""
    box = account.once(Inbox)

    def is_told() -> bool:
        # AWS's pages have both spellings.
        contents = [each.content for each in box.about(arn, _MEMBER)]
        return any(
            "Stopping" in (each.get("status"), each.get("Status")) for each in contents
        )

    try:
        arn, token, _ = _ask(account, "callback-stopped")
        account.require("the stop", account.told(account.stop, arn))
        begin = account.now()
        box.look_for(is_told)
        account.sleep(begin + _STOP_SECONDS - account.now())
        later = account.status(arn)
        yield {
            "stop-message": one_of(is_told(), "Stopping", "no message"),
            "stop-waits": later,
        }
        account.expect(later, "Stopping")
        answer = _answer(account, token, _NO)
        yield {"answer-after-stop": answer}
        account.require("the answer", answer)
        yield {"stopped": account.end(arn).status}
    finally:
        box.give_back()
