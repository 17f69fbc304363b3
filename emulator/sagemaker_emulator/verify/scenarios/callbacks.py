"""
Callback steps: their messages, and the answers to them. They only wait, so they cost
nothing.

Whoever knows the token of such a step can end it, so the token is one of the secrets of
the run.

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
)
from sagemaker_emulator.verify.scenarios.inbox import Inbox

_STEP: Final = "Ask"
# A member that only the messages of the step have.
_MEMBER: Final = "arguments"
_REASON: Final = "polysync verify: the answer is no"
# Longer than the stop of an execution without a callback step takes.
_STOP_SECONDS: Final = 30.0
# A token has ten characters:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CallbackStepMetadata.html
_UNKNOWN_TOKEN: Final = "0" * 10


def _ask(account: Account, subject: str) -> tuple[str, str]:
    """
    Start an execution, and wait for the message of its callback step.

    :return: its ARN, and the token of the step.
    :raises NotCheckedError: the step does not wait for an answer.
    """
    # If nobody may answer, the step would wait for seven days, and its pipeline with
    # it.
    refusal = account.once(_answer_nothing)
    if isinstance(refusal, NotCheckedError):
        raise refusal
    inbox = account.once(Inbox)
    definition = definitions.callback(account.options["--queue-url"])
    arn = account.start(account.create(subject, definition))

    def token_of_waiting_step() -> str:
        """Return the token of the step; empty if it does not wait for its answer."""
        step = _step(account, arn)
        if step.get("StepStatus") not in RUNNING:
            return ""
        callback = step.get("Metadata", {}).get("Callback", {})
        return str(callback.get("CallbackToken", ""))

    def has_begun() -> bool:
        if account.has_ended(arn):
            return True
        return account.is_found(arn) and token_of_waiting_step() != ""

    def has_sent_or_ended() -> bool:
        if inbox.about(arn, _MEMBER):
            return True
        return not token_of_waiting_step()

    account.wait_for("The token of a callback step", has_begun)
    token = token_of_waiting_step()
    account.session.secrets.append(token)
    inbox.receive_until(has_sent_or_ended)
    if token and (inbox.about(arn, _MEMBER) or token_of_waiting_step()):
        return arn, token
    reason = _step(account, arn).get("FailureReason")
    raise NotCheckedError(
        f"the step has ended: {reason}; may the role send messages to the queue?"
    )


def _step(account: Account, arn: str) -> Any:
    """Return the callback step of an execution; empty if it is not listed."""
    for step in account.steps(arn):
        if step["StepName"] == _STEP:
            return step
    return {}


def _answer_yes(account: Account, token: str) -> Observed:
    return account.answer_to(
        account.call,
        "SendPipelineExecutionStepSuccess",
        CallbackToken=token,
        ClientRequestToken=_request_token("Success", token),
        OutputParameters=[{"Name": "answer", "Value": "yes"}],
    )


def _answer_no(account: Account, token: str) -> Observed:
    return account.answer_to(
        account.call,
        "SendPipelineExecutionStepFailure",
        CallbackToken=token,
        ClientRequestToken=_request_token("Failure", token),
        FailureReason=_REASON,
    )


def _request_token(kind: str, token: str) -> str:
    """Return the client request token of an answer, the same for the same answer."""
    return f"polysync-verify-{kind}-{token}".ljust(32, "-")


def answered(account: Account) -> Observations:
    """Answer a callback step, several times."""
    try:
        arn, token = _ask(account, "callback")
        yield _observe_message(account, arn, token)
        success = _answer_yes(account, token)
        yield {"success": success}
        account.require_accepted("the answer", success)
        yield {"same-answer": _answer_yes(account, token)}
        yield {"other-answer": _answer_no(account, token)}
        end = account.wait_for_end(arn)
        yield {
            "next-step": end.status,
            "same-answer-after-end": _answer_yes(account, token),
        }
    finally:
        account.once(Inbox).give_back()
    callback = end.step(_STEP).get("Metadata", {}).get("Callback", {})
    outputs = {
        output["Name"]: output["Value"]
        for output in callback.get("OutputParameters", [])
    }
    yield {"outputs": json.dumps(outputs, sort_keys=True)}


def _observe_message(account: Account, arn: str, token: str) -> dict[str, Observed]:
    messages = account.once(Inbox).about(arn, _MEMBER)
    if not messages:
        reason = NotCheckedError("the step has sent no message")
        return {"token": reason, "inputs": reason}

    content = messages[0].content
    if "token" not in content:
        seen = "no token"
    elif content["token"] == token:
        seen = "the token of the step"
    else:
        seen = "another token"
    return {
        "token": seen,
        "inputs": json.dumps(content.get(_MEMBER), sort_keys=True),
    }


def failed(account: Account) -> Observations:
    """Answer a callback step with a failure."""
    arn, token = _ask(account, "callback-failed")
    account.require_accepted("the answer", _answer_no(account, token))
    step = account.wait_for_end(arn).step(_STEP)
    status = step.get("StepStatus")
    reason = step.get("FailureReason")
    yield {
        "failure": one_of(
            reason == _REASON,
            f"{status}, with the reason",
            f"{status}, with another reason",
            reason,
        )
    }


def unknown_token(account: Account) -> Observations:
    """Answer with a token that AWS does not know."""
    yield {"unknown-token": account.once(_answer_nothing)}


def _answer_nothing(account: Account) -> Observed:
    return _answer_no(account, _UNKNOWN_TOKEN)


def stopped(account: Account) -> Observations:
    """Stop an execution while its callback step waits."""
    inbox = account.once(Inbox)

    def has_stop_message() -> bool:
        for message in inbox.about(arn, _MEMBER):
            # AWS's pages have both spellings.
            for member in ("status", "Status"):
                if message.content.get(member) == "Stopping":
                    return True
        return False

    try:
        arn, token = _ask(account, "callback-stopped")
        account.require_accepted("the stop", account.answer_to(account.stop, arn))
        begin = account.now()
        inbox.receive_until(has_stop_message)
        account.sleep(begin + _STOP_SECONDS - account.now())
        status = account.status(arn)
        yield {
            "stop-message": one_of(has_stop_message(), "Stopping", "no message"),
            "stop-waits": status,
        }
        account.require_status(status, "Stopping")
        answer = _answer_no(account, token)
        yield {"answer-after-stop": answer}
        account.require_accepted("the answer", answer)
        yield {"stopped": account.wait_for_end(arn).status}
    finally:
        inbox.give_back()
