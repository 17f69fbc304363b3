"""
Callback steps: their messages, and the answers to them. They only wait, so they cost nothing.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import (
    CallbackMessage,
    RunningCallback,
    find_step,
    recorded_outputs,
    running_callback,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.states import STATUS_STOPPING, has_ended
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, status_of
from polysync_airflow.verification.beliefs.messages.inbox import DELAY_SECONDS, Message, inbox
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.models import (
    ACCEPTED,
    IN_CONFLICT,
    NOT_FOUND,
    NotCheckedError,
    Seen,
    belief_maker,
    limit_text,
    told,
    within,
)

_STEP: Final = "Ask"
_OUTPUTS: Final = {"answer": "yes"}
_REASON: Final = "polysync verify: the answer is no"
# Longer than the stop of an execution takes that has no callback step.
_STOP_SECONDS: Final = 30.0
# A token has ten characters: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CallbackStepMetadata.html
_UNKNOWN_TOKEN: Final = SecretStr("0" * 10)

Answer = object | Refusal


@dataclass(frozen=True)
class Asked:
    """
    A callback step that waits for its answer.

    :param status: of the step, when it has its token.
    :param message: its message; None if none has come.
    :param delay: seconds from its token to its message.
    """

    arn: str
    waiting: RunningCallback
    status: str
    message: Message | None
    delay: float


def _ask(account: Account, subject: str) -> Asked:
    """Start an execution, and wait for the message of its callback step."""
    # An error if nobody may answer: the step would wait for seven days, and its pipeline with it.
    account.once(_answer_to_nobody)
    box = account.once(inbox)
    # The runner has asked for the option.
    name = account.create(subject, definitions.callback(account.options.queue_url or ""))
    arn = account.start(name)
    account.wait_for(
        arn,
        lambda answer: has_ended(status_of(answer)) or _waiting(account, arn) is not None,
        "The token of a callback step",
    )
    begin, waiting, step = clock.monotonic(), _waiting(account, arn), _step(account, arn)
    box.look_for(lambda: bool(_messages(account, arn)) or _waiting(account, arn) is None)
    messages = _messages(account, arn)
    if waiting is None or step is None or (not messages and _waiting(account, arn) is None):
        ended = _step(account, arn)
        reason = ended.failure_reason if ended else None
        raise NotCheckedError(f"the step has ended: {reason}; may the role send messages to the queue?")
    first = messages[0] if messages else None
    return Asked(arn, waiting, str(step.status), first, max(0.0, first.at - begin) if first else 0.0)


def _answer_to_nobody(account: Account) -> Answer:
    return _fail(account, _UNKNOWN_TOKEN)


def _step(account: Account, arn: str) -> StepDescription | None:
    return find_step(account.steps(arn), _STEP)


def _waiting(account: Account, arn: str) -> RunningCallback | None:
    step = _step(account, arn)
    return running_callback(step) if step and not has_ended(step.status) else None


def _messages(account: Account, arn: str) -> list[Message]:
    box = account.once(inbox)
    return [each for each in box.about(arn) if isinstance(each.content, CallbackMessage)]


def _succeed(account: Account, token: SecretStr) -> Answer:
    return account.answer_to(lambda: account.hook.send_pipeline_execution_step_success(token, _OUTPUTS))


def _fail(account: Account, token: SecretStr) -> Answer:
    return account.answer_to(lambda: account.hook.send_pipeline_execution_step_failure(token, _REASON))


@dataclass(frozen=True)
class Answered:
    """A callback step that was answered with success, and what else was sent."""

    asked: Asked
    first: Answer
    again: Answer
    other: Answer
    end: str
    again_after_end: Answer
    step: StepDescription | None


def answered(account: Account) -> Answered:
    """Answer a callback step, several times."""
    try:
        asked = _ask(account, "callback")
        token = asked.waiting.token
        first = _succeed(account, token)
        again = _succeed(account, token)
        other = _fail(account, token)
        end = status_of(account.wait_for_end(asked.arn))
        again_after_end = _succeed(account, token)
    finally:
        account.once(inbox).give_back()
    return Answered(asked, first, again, other, end, again_after_end, _step(account, asked.arn))


def _failed(account: Account) -> StepDescription:
    """Answer a callback step with a failure, and return it when its execution has ended."""
    asked = _ask(account, "callback-failed")
    _fail(account, asked.waiting.token)
    account.wait_for_end(asked.arn)
    step = _step(account, asked.arn)
    if step is None:
        raise PolysyncError("The callback step is no longer listed.")
    return step


@dataclass(frozen=True)
class Stopped:
    """
    An execution that was stopped while its callback step waited.

    :param later: the status, some time after the stop.
    :param message: the message about the stop; None if none has come.
    """

    later: str
    message: CallbackMessage | None
    answer: Answer
    end: str


def stopped(account: Account) -> Stopped:
    """Stop an execution while its callback step waits."""
    box = account.once(inbox)
    try:
        asked = _ask(account, "callback-stopped")
        account.try_to_stop(asked.arn)
        begin = clock.monotonic()
        box.look_for(lambda: _stop_message(account, asked.arn) is not None)
        account.sleep(max(0.0, begin + _STOP_SECONDS - clock.monotonic()))
        later = status_of(account.describe(asked.arn))
        message = _stop_message(account, asked.arn)
        answer = _fail(account, asked.waiting.token)
        end = status_of(account.wait_for_end(asked.arn))
    finally:
        box.give_back()
    return Stopped(later, message, answer, end)


def _stop_message(account: Account, arn: str) -> CallbackMessage | None:
    contents = [each.content for each in _messages(account, arn)]
    return next((each for each in contents if isinstance(each, CallbackMessage) and each.is_stop), None)


def _content(account: Account) -> CallbackMessage | None:
    message = account.once(answered).asked.message
    return message.content if message and isinstance(message.content, CallbackMessage) else None


def _token(account: Account) -> Seen:
    content = _content(account)
    if content is None:
        return Seen("no message", account.once(inbox).problems)
    same = content.token == account.once(answered).asked.waiting.token
    return Seen("the token of the step" if same else "another token" if content.token else "no token")


def _inputs(account: Account) -> Seen:
    content = _content(account)
    if content is None:
        return Seen("no message", account.once(inbox).problems)
    return Seen(_as_text(content.arguments))


def _as_text(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True)


def _delay(account: Account) -> Seen:
    asked = account.once(answered).asked
    return within(asked.delay, DELAY_SECONDS) if asked.message else Seen("no message")


def _outputs(account: Account) -> Seen:
    step = account.once(answered).step
    outputs = recorded_outputs(step) if step else {}
    return Seen(_as_text(outputs))


def _reason(account: Account) -> Seen:
    step = account.once(_failed)
    same = step.failure_reason == _REASON
    return Seen(f"{step.status}, {'with the' if same else 'with another'} reason", step.failure_reason or "")


def _unknown_token(account: Account) -> Seen:
    return told(_succeed(account, _UNKNOWN_TOKEN))


def _message_of_stop(account: Account) -> Seen:
    message = account.once(stopped).message
    return Seen(str(message.status) if message else "no message")


def _field(name: str) -> Callable[[Account], Seen]:
    return lambda account: told(getattr(account.once(answered), name))


_SHAPES: Final = "polysync_airflow/execution/steps/callbacks.py"
_ANSWERS: Final = "polysync_airflow/operators/callback/messages.py"
_SERVING: Final = "polysync_airflow/operators/callback/run.py"
_PAGE: Final = "docs/how-to/answer-callback-steps.md"
_EMULATOR: Final = "emulator/sagemaker_emulator/sagemaker/jobs/callback_messages.py"
_ENGINE: Final = "emulator/sagemaker_emulator/engine/execution.py"

_belief: Final = belief_maker("callback", "--queue-url")

BELIEFS: Final = (
    _belief(
        "token",
        "The message of a callback step has the token that the list of steps has, too.",
        "the token of the step",
        _token,
        _SHAPES,
        "polysync_airflow/operators/callback/messages.py",
    ),
    _belief(
        "inputs",
        "The message has the inputs of the step, numbers as numbers.",
        _as_text(definitions.CALLBACK_ARGUMENTS),
        _inputs,
        _SHAPES,
        _PAGE,
        _EMULATOR,
    ),
    _belief(
        "status",
        "A callback step that has its token is Executing.",
        "Executing",
        lambda account: Seen(account.once(answered).asked.status),
        _SHAPES,
    ),
    _belief("delay", "The message comes soon.", limit_text(DELAY_SECONDS), _delay, _SERVING, _PAGE),
    _belief("success", "The answer ends the step.", ACCEPTED, _field("first"), _ANSWERS, _PAGE),
    _belief(
        "same-answer",
        "The same answer with the same client request token is accepted again.",
        ACCEPTED,
        _field("again"),
        "polysync_airflow/hooks/callbacks.py",
        _ANSWERS,
    ),
    _belief(
        "same-answer-after-end",
        "The same is true after the end of the execution.",
        ACCEPTED,
        _field("again_after_end"),
        "polysync_airflow/hooks/callbacks.py",
        _ANSWERS,
    ),
    _belief(
        "other-answer",
        "Another answer to a step that has ended is refused.",
        IN_CONFLICT,
        _field("other"),
        _ANSWERS,
        "emulator/sagemaker_emulator/sagemaker/executions.py",
    ),
    _belief(
        "outputs",
        "The list of steps has the output parameters of the answer.",
        _as_text(_OUTPUTS),
        _outputs,
        _SHAPES,
        "docs/how-to/use-outputs.md",
    ),
    _belief(
        "next-step",
        "A later step can use them.",
        "Succeeded",
        lambda account: Seen(account.once(answered).end),
        "emulator/sagemaker_emulator/engine/expressions.py",
    ),
    _belief(
        "failure",
        "A step that is answered with a failure fails with the reason of the answer.",
        "Failed, with the reason",
        _reason,
        _ANSWERS,
        _PAGE,
    ),
    _belief(
        "unknown-token",
        "The answer to a token that AWS does not know is refused.",
        NOT_FOUND,
        _unknown_token,
        _ANSWERS,
    ),
    _belief(
        "stop-message",
        "If the execution is stopped while the step waits, a second message says so.",
        STATUS_STOPPING,
        _message_of_stop,
        _SHAPES,
        _EMULATOR,
    ),
    _belief(
        "stop-waits",
        "The stop waits for the answer.",
        STATUS_STOPPING,
        lambda account: Seen(account.once(stopped).later),
        _ANSWERS,
        _ENGINE,
        "polysync_airflow/verification/cleaning.py",
    ),
    _belief(
        "answer-after-stop",
        "An answer after the stop is accepted.",
        ACCEPTED,
        lambda account: told(account.once(stopped).answer),
        _SERVING,
        _ENGINE,
    ),
    _belief(
        "stopped",
        "Then the execution ends as Stopped.",
        "Stopped",
        lambda account: Seen(account.once(stopped).end),
        _ENGINE,
        "docs/explanation/outcomes.md",
    ),
)
