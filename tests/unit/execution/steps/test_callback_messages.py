"""What a task does with each message that it receives."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from polysync_airflow.execution.steps.callbacks import (
    FIRST_SENT,
    LOOK_UP_SECONDS,
    MAX_WAIT_SECONDS,
    CallbackMessage,
    Handling,
    ReceivedMessage,
    Redrive,
    handling_of,
)

SENT = 1_700_000_000.0
CONTENT = CallbackMessage.model_validate(
    {
        "token": "t",
        "pipelineExecutionArn": f"arn:aws:sagemaker:us-east-1:{'1' * 12}:pipeline/p/execution/e",
    }
)
SOON = LOOK_UP_SECONDS
LATER = LOOK_UP_SECONDS + 1
TOO_LATE = MAX_WAIT_SECONDS + 1


def received(receives: int = 1, **attributes: Any) -> ReceivedMessage:
    """Return a message that was sent at ``SENT``."""
    sent = str(int(SENT * 1000))
    system = {"ApproximateReceiveCount": str(receives), "SentTimestamp": sent}
    return message_with(system, attributes)


def message_with(system: Any, attributes: Any) -> ReceivedMessage:
    """Return a message with attributes of SQS and of its sender."""
    message = {"Body": "{}", "ReceiptHandle": "r", "Attributes": system}
    return ReceivedMessage.model_validate({**message, "MessageAttributes": attributes})


@pytest.mark.parametrize(
    ("is_own", "content", "receives", "max_receives", "age", "waits", "expected"),
    [
        (True, CONTENT, 5, 5, TOO_LATE, None, Handling.KEEP),
        # Of another consumer.
        (False, None, 5, 5, 0, None, Handling.GIVE_BACK),
        # No dead-letter queue.
        (False, CONTENT, 999, None, 0, None, Handling.GIVE_BACK),
        # Half of the receives are left for its own task.
        (False, CONTENT, 1, 2, 0, None, Handling.SEND_AGAIN),
        (False, CONTENT, 1, 3, 0, None, Handling.GIVE_BACK),
        (False, CONTENT, 2, 5, 0, None, Handling.GIVE_BACK),
        (False, CONTENT, 2, 5, LATER, False, Handling.GIVE_BACK),
        (False, CONTENT, 3, 5, 0, None, Handling.SEND_AGAIN),
        (False, CONTENT, 5, 5, SOON, None, Handling.SEND_AGAIN),
        # Perhaps nobody waits for it any more.
        (False, CONTENT, 5, 5, LATER, None, Handling.LOOK_UP),
        (False, CONTENT, 5, 5, LATER, True, Handling.SEND_AGAIN),
        (False, CONTENT, 5, 5, LATER, False, Handling.DELETE),
        (False, CONTENT, 5, 5, MAX_WAIT_SECONDS, True, Handling.SEND_AGAIN),
        (False, CONTENT, 5, 5, TOO_LATE, True, Handling.GIVE_BACK),
        (False, CONTENT, 5, 5, TOO_LATE, False, Handling.DELETE),
    ],
)
def test_message_of_others_is_copied_before_its_receives_are_used_up(
    is_own: bool,
    content: CallbackMessage | None,
    receives: int,
    max_receives: int | None,
    age: float,
    waits: bool | None,
    expected: Handling,
) -> None:
    """A copy is made before the receives are used up, and not for ever."""
    message = received(receives)
    state: Any = {"is_own": is_own, "max_receives": max_receives, "waits": waits}
    handling = handling_of(message, content, now=SENT + age, **state)

    assert handling is expected


def test_age_is_that_of_the_first_message() -> None:
    """
    A copy says when the first message was sent, and does not forget the attributes of
    its sender.
    """
    theirs = {"DataType": "String", "StringValue": "x"}
    day = 24 * 3600

    sent = {FIRST_SENT: number(int(SENT * 1000))}
    sent_before = {FIRST_SENT: number(int(SENT - day) * 1000)}
    first = received(trace=theirs)
    copy = received(**{**first.attributes_of_copy, **sent_before})

    assert first.attributes_of_copy == {"trace": theirs, **sent}
    assert copy.attributes_of_copy == {"trace": theirs, **sent_before}
    arguments: Any = {"is_own": False, "max_receives": 1}
    assert handling_of(copy, CONTENT, now=SENT, **arguments) is Handling.LOOK_UP
    handling = handling_of(copy, CONTENT, now=SENT - day, **arguments)
    assert handling is Handling.SEND_AGAIN


def number(value: object) -> dict[str, Any]:
    """Return an attribute of a message."""
    return {"DataType": "Number", "StringValue": str(value)}


@pytest.mark.parametrize(
    "attribute",
    [
        number(-1),
        number("1e3"),
        number("9" * 15),
        number("\N{ARABIC-INDIC DIGIT ONE}"),
        {},
        None,
        "1",
    ],
)
def test_time_that_is_none_or_in_the_future_does_not_count(attribute: Any) -> None:
    """
    Whoever may send messages can set the attribute: a time that is none, or in the
    future, does not count.
    """
    assert received(**{FIRST_SENT: attribute}).first_sent == SENT * 1000


@pytest.mark.parametrize(("digits", "read"), [(15, 15), (16, 17)])
def test_time_with_more_digits_than_milliseconds_is_not_read(
    digits: int, read: int
) -> None:
    """Times are milliseconds of Unix time. A number of any length is not read."""
    first_sent = {FIRST_SENT: number("9" * digits)}
    message = message_with({"SentTimestamp": "9" * 17}, first_sent)

    assert message.first_sent == int("9" * read)


def test_attributes_of_a_message_have_defaults() -> None:
    """They have defaults, and the body, which has a token, is not in its ``repr``."""
    bare = ReceivedMessage.model_validate({"Body": "secret", "ReceiptHandle": "r"})
    assert (bare.receives, bare.sent, bare.attributes) == (1, 0, {})
    assert "secret" not in repr(bare)


def test_redrive_policy_has_its_number_as_number_or_text() -> None:
    """
    Tools write the number as a number or as text; a policy that is neither is an error
    of the response.
    """
    arn = "arn:aws-cn:sqs:cn-north-1:123456789012:dead_letters-1.fifo"
    valid = {"deadLetterTargetArn": arn, "maxReceiveCount": 1}
    for count in (1, "1"):
        policy = Redrive.model_validate({**valid, "maxReceiveCount": count})
        assert policy.queue_arn == arn
        assert policy.max_receives == 1
    for other in (
        {"maxReceiveCount": 0},
        {"deadLetterTargetArn": "x\n"},
        {"deadLetterTargetArn": f"{arn}\nx"},
    ):
        with pytest.raises(ValidationError):
            Redrive.model_validate({**valid, **other})
