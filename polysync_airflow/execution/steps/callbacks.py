"""
Callback steps: what AWS says of one, the messages in its queue, and what an answer may
contain.

A callback step waits until somebody sends its token back to AWS, with output parameters
or with the reason of a failure. Whoever knows the token can end the step, so it is a
secret: no text, error or ``repr`` has it.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html

All executions of a pipeline share the queue that its definition names, so a task
receives the messages of other tasks, too. SQS counts each receive, and moves a message
that was received too often to a dead-letter queue.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html

Everything here is pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import (
    AliasChoices,
    AliasPath,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
)

from polysync_airflow import exceptions, states
from polysync_airflow.execution import json_input, models, texts
from polysync_airflow.execution.steps.descriptions import (
    StepDescription,
    outputs_by_step,
)

# The member of a step's metadata, and the type of a step in a definition.
CALLBACK: Final = "Callback"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SendPipelineExecutionStepSuccess.html,
# API_OutputParameter.html and API_SendPipelineExecutionStepFailure.html
MAX_OUTPUTS: Final = 50
MAX_NAME_LENGTH: Final = 256
MAX_FAILURE_LENGTH: Final = 256
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BODY_BYTES: Final = 1024 * 1024
# The XCom of the task is a dict of texts.
Outputs = dict[str, str]

_QUEUE_URL: Final = re.compile(
    r"https?://(?P<host>[^/?#@\s]{1,200})/\d{12}/[\w.-]{1,80}"
)
_QUEUE_HOST: Final = re.compile(
    r"(?:[a-z-]+\.)?sqs\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.|api\.(?:aws|amazonwebservices\.))"
)


def _token_or_none(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch("[a-zA-Z0-9]{1,64}", value):
        return value
    return None


# A constraint on the secret itself would quote it in its error.
CallbackToken = Annotated[SecretStr | None, BeforeValidator(_token_or_none)]


class CallbackMessage(models.FrozenModel):
    """
    The body of a message that a callback step has sent to its queue.

    :param arguments: the inputs of the step, by name.
    :param status: ``Stopping`` if the execution is to be stopped; None when the step
        begins.
    """

    token: CallbackToken = None
    execution_arn: models.ExecutionArn = Field(validation_alias="pipelineExecutionArn")
    arguments: dict[str, Any] = Field(default_factory=dict)
    # AWS's pages have both spellings.
    status: str | None = Field(None, validation_alias=AliasChoices("status", "Status"))

    @property
    def is_stop(self) -> bool:
        """Whether the execution is to be stopped."""
        return self.status == states.STATUS_STOPPING


def parse_message(body: str) -> CallbackMessage | None:
    """
    Return the message of a callback step; None for any other message.

    :param body: the body of the message, as SQS returns it.
    """
    try:
        content = json_input.read_json(body, "the message", max_bytes=MAX_BODY_BYTES)
        return CallbackMessage.model_validate(content)
    except (json_input.UnreadableJsonError, ValidationError):
        return None


class Queue(NamedTuple):
    """
    A queue of SQS.

    :param region: its AWS region; None if the URL does not name it.
    """

    url: str
    region: str | None


def parse_queue_url(url: str) -> Queue | None:
    """Return the queue with a URL; None if it is not the URL of a queue."""
    match = _QUEUE_URL.fullmatch(url)
    if match is None:
        return None
    host = _QUEUE_HOST.match(match["host"])
    if host is None:
        return Queue(url, region=None)
    return Queue(url, host["region"])


class RunningCallback(NamedTuple):
    """A callback step that waits for its answer."""

    token: SecretStr
    queue: Queue


def running_callback(step: StepDescription) -> RunningCallback | None:
    """
    Return the token and the queue of a callback step; None if AWS has not yet given it
    a token.

    :raises CallbackStepError: the step is no callback step, or names no queue.
    """
    if step.kind not in (CALLBACK, None):
        raise exceptions.CallbackStepError(
            f"Step {step.name} is a step of type {step.kind}, not a callback step."
        )
    token = _token_or_none(step.text("CallbackToken"))
    if token is None:
        return None
    url = step.text("SqsQueueUrl")
    queue = parse_queue_url(url) if url else None
    if queue is None:
        raise exceptions.CallbackStepError(
            f"The queue of step {step.name} is {texts.shorten(url)}, which is not the"
            " URL of an SQS queue: correct sqs_queue_url of the step in the pipeline."
        )
    return RunningCallback(SecretStr(token), queue)


class CallbackStatus(Enum):
    """How a callback step is, for the task that serves it."""

    # The step has not begun, and still may.
    NOT_BEGUN = auto()
    # The step waits for its answer.
    RUNNING = auto()
    # The step waits for its answer, and so does the stop of its execution.
    STOPPING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    # The execution was stopped before the step began, or with the step.
    CANCELLED = auto()
    # The execution has ended without the step.
    NEVER_RAN = auto()


def find_step(steps: Sequence[StepDescription], name: str) -> StepDescription | None:
    """
    Return the step with a name; None if AWS has not begun it.

    :param steps: AWS's list. Of several steps with the name, the newest one counts.
    """

    def begin(step: StepDescription) -> datetime:
        return step.started_at or datetime.min.replace(tzinfo=UTC)

    return max((step for step in steps if step.name == name), key=begin, default=None)


def callback_status(step: StepDescription | None, status: str) -> CallbackStatus:
    """
    Return the status of a callback step.

    :param step: the step; None if AWS has not begun it.
    :param status: AWS's status of the execution.
    """
    state = step.state if step else None
    if state is states.PolysyncState.SUCCESS:
        return CallbackStatus.SUCCEEDED
    if state is states.PolysyncState.FAILED:
        return CallbackStatus.FAILED
    if states.PolysyncState.CANCELLED in (state, states.state_of(status)):
        return CallbackStatus.CANCELLED
    if states.has_ended(status):
        return CallbackStatus.NEVER_RAN
    if step and states.STATUS_STOPPING in (status, step.status):
        return CallbackStatus.STOPPING
    if step:
        return CallbackStatus.RUNNING
    if status == states.STATUS_STOPPING:
        return CallbackStatus.CANCELLED
    return CallbackStatus.NOT_BEGUN


def is_news(
    name: str,
    status: str | None,
    steps: Sequence[StepDescription] | BaseException | None,
) -> bool:
    """
    Return whether the task of a callback step must run: the step has begun, or cannot
    begin any more.

    :param status: AWS's status of the execution; None if it is not known.
    :param steps: AWS's list of its steps, or the error; None if they were not listed.
    """
    if status and callback_status(None, status) is not CallbackStatus.NOT_BEGUN:
        return True
    if steps is None:
        return False
    if isinstance(steps, exceptions.PolysyncError) and steps.transient:
        return False
    if isinstance(steps, BaseException):
        # The task lists the steps again, and fails with the reason.
        return True
    return find_step(steps, name) is not None


def still_waits(steps: Sequence[StepDescription], token: SecretStr | None) -> bool:
    """
    Return whether a callback step may still wait for its answer; True if no step has
    the token.
    """
    if not token:
        return True
    secret = token.get_secret_value()
    own = [step for step in steps if step.text("CallbackToken") == secret]
    return not own or any(not states.has_ended(step.status) for step in own)


def recorded_outputs(step: StepDescription) -> Outputs:
    """Return the output parameters with which a step has succeeded."""
    outputs = outputs_by_step([step]).get(step.name, {})
    parameters = outputs.get("output_parameters")
    if not isinstance(parameters, dict):
        return {}
    named = {
        name: str(value) for name, value in parameters.items() if value is not None
    }
    storable: Outputs = texts.storable(named, [])
    return storable


def output_parameters(value: Any) -> Outputs:
    """
    Return the result of a function as output parameters.

    Numbers and booleans become ``str(value)``, as AWS's own Python SDK sends
    parameters.

    :param value: a mapping of names to texts, numbers or booleans; None for no
        parameters.
    :raises ParametersError: AWS would refuse it, or would read it as something else.
    """
    if value is None:
        return {}
    cure = (
        f"return a dict of at most {MAX_OUTPUTS} names to texts, numbers or booleans,"
        f" or None. A name has 1 to {MAX_NAME_LENGTH} characters, a value at most"
        f" {texts.MAX_VALUE_LENGTH:,}: pass larger data by its S3 URI, and a nested"
        " value as JSON text"
    )
    if not isinstance(value, Mapping) or len(value) > MAX_OUTPUTS:
        raise exceptions.ParametersError(
            f"The function returned {texts.shorten(value)}: {cure}."
        )
    outputs = {}
    for name, entry in value.items():
        is_name = isinstance(name, str) and name.isprintable()
        if not is_name or not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise exceptions.ParametersError(
                f"The function returned the name {texts.shorten(name)}: {cure}."
            )
        if name in texts.RESERVED_NAMES:
            raise exceptions.ParametersError(
                f"The function returned the name {name}, which Airflow reserves:"
                " rename it."
            )
        text = _text_of(entry)
        if text is None or len(text) > texts.MAX_VALUE_LENGTH:
            raise exceptions.ParametersError(
                f"The function returned {texts.clean_line(name)} ="
                f" {texts.shorten(entry)}: {cure}."
            )
        outputs[name] = text
    return outputs


def _text_of(value: Any) -> str | None:
    if not isinstance(value, (str, int, float)):
        return None
    try:
        text = str(value)
    except ValueError:
        # Python refuses to write integers of more than 4,300 digits.
        return None
    if not texts.is_storable_text(text):
        return None
    return text


def failure_reason(text: str) -> str:
    """
    Return a text as the reason of a failed step. AWS shows it to everybody who may list
    the steps.
    """
    return texts.clean_line(text, MAX_FAILURE_LENGTH)


def answer_token(token: SecretStr, kind: Literal["success", "failure"]) -> SecretStr:
    """
    Return the client request token of an answer. It is the same for the same answer to
    the same step.

    It is as secret as the callback token: whoever has it could try callback tokens
    until one gives it.
    """
    digest = hashlib.sha256(f"{token.get_secret_value()}#{kind}".encode()).hexdigest()
    return SecretStr(f"polysync-callback-{digest}")


class StepChangedEvent(models.StrictModel):
    """
    The event of a trigger that has seen a change of the step. The task itself finds out
    what has changed.

    :param since: when the wait began, as Unix time in seconds.
    :param deadline: when it ends at the latest, as Unix time in seconds.
    """

    outcome: Literal["step_changed"] = "step_changed"
    since: models.Timestamp
    deadline: models.Timestamp


# AWS lets a callback step fail that was not answered for so long.
MAX_WAIT_SECONDS: Final = 7 * 24 * 3600.0
# A task receives its message within minutes. For an older message, AWS is asked whether
# its step still waits.
LOOK_UP_SECONDS: Final = 300.0
# The attribute of a copy with the Unix time, in milliseconds, at which the message was
# first sent.
FIRST_SENT: Final = "polysync.first-sent"


class ReceivedMessage(models.FrozenModel):
    """
    A message of a queue.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Message.html

    :param receipt: the handle with which it can be deleted, or be hidden for longer.
    :param attributes: the attributes that its sender has set.
    :param receives: how often it was received, this time included.
    :param sent: when it was sent, as Unix time in milliseconds.
    """

    body: str = Field(validation_alias="Body", repr=False)
    receipt: str = Field(
        validation_alias="ReceiptHandle", min_length=1, max_length=4096
    )
    attributes: dict[str, Any] = Field(
        default_factory=dict, validation_alias="MessageAttributes"
    )
    receives: int = Field(
        1, validation_alias=AliasPath("Attributes", "ApproximateReceiveCount")
    )
    sent: int = Field(0, validation_alias=AliasPath("Attributes", "SentTimestamp"))

    @property
    def first_sent(self) -> int:
        """When it was sent for the first time, as Unix time in milliseconds."""
        attribute = self.attributes.get(FIRST_SENT)
        if not isinstance(attribute, dict):
            return self.sent
        text = attribute.get("StringValue")
        # Whoever may send messages can send any attribute.
        if not isinstance(text, str) or not re.fullmatch("[0-9]{1,15}", text):
            return self.sent
        return min(self.sent, int(text))

    @property
    def attributes_of_copy(self) -> dict[str, Any]:
        """The attributes of the copy that replaces the message."""
        first_sent = {"DataType": "Number", "StringValue": str(self.first_sent)}
        return {**self.attributes, FIRST_SENT: first_sent}


class Redrive(models.FrozenModel):
    """
    When SQS moves messages of a queue to a dead-letter queue.

    :param queue_arn: the dead-letter queue.
    :param max_receives: a message that was received so often, and not deleted, is moved
        at its next receive.
    """

    queue_arn: str = Field(
        validation_alias="deadLetterTargetArn", pattern=r"^arn:[A-Za-z0-9:_.-]{1,200}$"
    )
    max_receives: int = Field(validation_alias="maxReceiveCount", ge=1)


class Handling(Enum):
    """What a task does with a message that it has received."""

    # It keeps the message of its own step.
    KEEP = auto()
    # It lets other consumers receive the message at once.
    GIVE_BACK = auto()
    # It asks AWS whether the step of the message still waits, and decides again.
    LOOK_UP = auto()
    # It replaces the message by a copy, for which SQS counts the receives anew.
    SEND_AGAIN = auto()
    # It deletes the message, whose step has ended.
    DELETE = auto()


def handling_of(
    received: ReceivedMessage,
    content: CallbackMessage | None,
    *,
    is_own: bool,
    max_receives: int | None,
    now: float,
    waits: bool | None = None,
) -> Handling:
    """
    Return what a task does with a message that it has received.

    :param content: what the message says; None if no callback step has sent it.
    :param is_own: whether the task's own step has sent it.
    :param max_receives: how often the queue lets a message be received; None if it has
        no dead-letter queue.
    :param now: the time, as Unix time in seconds.
    :param waits: whether its step may still wait for its answer; None if AWS was not
        asked.
    """
    if is_own:
        return Handling.KEEP
    # A consumer of other messages may not expect a copy.
    if content is None or max_receives is None:
        return Handling.GIVE_BACK
    # The other half of the receives is for the step's own task, whose worker may die,
    # and for those whose responses get lost.
    if received.receives * 2 < max_receives:
        return Handling.GIVE_BACK
    if waits is False:
        return Handling.DELETE
    age = now - received.first_sent / 1000
    if age > MAX_WAIT_SECONDS:
        return Handling.GIVE_BACK
    if waits is None and age > LOOK_UP_SECONDS:
        return Handling.LOOK_UP
    return Handling.SEND_AGAIN
