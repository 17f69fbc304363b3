"""
The pure core of callback steps: situations, messages, queues and answers, and what a
task does with each message.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from polysync_airflow.exceptions import (
    CallbackStepError,
    ParametersError,
    PolysyncError,
)
from polysync_airflow.execution.steps.callbacks import (
    FIRST_SENT,
    LOOK_UP_SECONDS,
    MAX_BODY_BYTES,
    MAX_WAIT_SECONDS,
    CallbackMessage,
    CallbackStatus,
    Handling,
    ReceivedMessage,
    Redrive,
    answer_token,
    callback_status,
    failure_reason,
    find_step,
    handling_of,
    is_news,
    output_parameters,
    parse_message,
    parse_queue_url,
    recorded_outputs,
    running_callback,
    still_waits,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import shorten
from polysync_airflow.states import STATE_OF_STATUS

ARN = "arn:aws:sagemaker:us-east-2:012345678901:pipeline/callback-pipeline/execution/7pinimwddh3a"
# The example in AWS's documentation.
BODY = {
    "token": "26vcYbeWsZ",
    "pipelineExecutionArn": ARN,
    "arguments": {
        "number": 5,
        "stringArg": "some-arg",
        "inputData": "s3://bucket/abalone-dataset.csv",
    },
}
QUEUE = "https://sqs.us-east-2.amazonaws.com/012345678901/MyCallbackQueue"
METADATA = {"CallbackToken": "26vcYbeWsZ", "SqsQueueUrl": QUEUE}


def step(status: str | None = "Executing", **members: Any) -> StepDescription:
    """Return a callback step, as AWS lists it."""
    own = {"StepName": "Wait", "StepStatus": status, "Metadata": {"Callback": METADATA}}
    return StepDescription.model_validate({**own, **members})


def callback(**members: Any) -> StepDescription:
    """Return a callback step with other metadata."""
    return step(Metadata={"Callback": {**METADATA, **members}})


def test_status_of_the_step_counts_before_that_of_the_execution() -> None:
    """The status of the step comes first, then that of the execution."""
    for step_status, status, expected in (
        (None, "Executing", CallbackStatus.NOT_BEGUN),
        (None, "Stopping", CallbackStatus.CANCELLED),
        (None, "Stopped", CallbackStatus.CANCELLED),
        (None, "Succeeded", CallbackStatus.NEVER_RAN),
        (None, "Failed", CallbackStatus.NEVER_RAN),
        ("Starting", "Executing", CallbackStatus.RUNNING),
        ("Executing", "Executing", CallbackStatus.RUNNING),
        ("Executing", "Stopping", CallbackStatus.STOPPING),
        ("Stopping", "Executing", CallbackStatus.STOPPING),
        ("Executing", "Failed", CallbackStatus.NEVER_RAN),
        *(("Succeeded", each, CallbackStatus.SUCCEEDED) for each in STATE_OF_STATUS),
        *(("Failed", each, CallbackStatus.FAILED) for each in STATE_OF_STATUS),
        *(("Stopped", each, CallbackStatus.CANCELLED) for each in STATE_OF_STATUS),
    ):
        listed = step(step_status) if step_status else None
        assert callback_status(listed, status) is expected


def test_message_of_the_documentation_is_read() -> None:
    """
    The message of AWS's documentation is read; both spellings of its status occur
    there.
    """
    for members in ({}, {"status": "Stopping"}, {"Status": "Stopping", "more": 1}):
        message = parse_message(json.dumps({**BODY, **members}))

        assert message is not None
        assert message.execution_arn == ARN
        assert message.arguments == BODY["arguments"]
        assert message.is_stop is bool(members)


def test_message_that_is_not_of_a_callback_step_is_none() -> None:
    """A message that is not one of a callback step is none of ours, whatever it is."""
    for body in (
        "{",
        "[]",
        json.dumps({"a": BODY}),
        json.dumps({**BODY, "arguments": []}),
    ):
        assert parse_message(body) is None


def test_message_of_more_than_a_mebibyte_is_not_read() -> None:
    """SQS allows a MiB. A longer text is not read."""
    body = json.dumps(BODY)

    assert parse_message(body.ljust(MAX_BODY_BYTES)) is not None
    assert parse_message(body.ljust(MAX_BODY_BYTES + 1)) is None


@pytest.mark.parametrize("token", [None, 7, "", "with space", "x" * 65, "a\nb"])
def test_token_of_another_form_is_none(token: Any) -> None:
    """A token of another form is no token, and no error quotes it."""
    message = parse_message(json.dumps({**BODY, "token": token}))

    assert message is not None
    assert message.token is None
    assert running_callback(callback(CallbackToken=token)) is None


def test_region_of_a_queue_is_in_its_url() -> None:
    """The URL of AWS's hosts says in which region a queue is."""
    for url, region in (
        (QUEUE, "us-east-2"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/012345678901/q.fifo", "cn-north-1"),
        (
            "https://sqs.eusc-de-east-1.api.amazonwebservices.eu/012345678901/q",
            "eusc-de-east-1",
        ),
        ("https://sqs.us-east-2.api.aws/012345678901/q", "us-east-2"),
        ("https://eu-west-1.queue.amazonaws.com/012345678901/q", None),
        ("http://127.0.0.1:4599/012345678901/q", None),
    ):
        assert parse_queue_url(url) == (url, region)


def test_url_that_is_no_queue_is_an_error_of_the_pipeline() -> None:
    """
    Something else than the URL of a queue is an error of the pipeline, before anything
    is called.
    """
    for url in (
        None,
        "https://sqs.us-east-2.amazonaws.com/q",
        "https://user@host/012345678901/q",
        f"{QUEUE}?x=1",
        f"{QUEUE}\n",
    ):
        with pytest.raises(CallbackStepError) as caught:
            running_callback(callback(SqsQueueUrl=url))

        assert str(caught.value) == (
            f"The queue of step Wait is {shorten(url)}, which is not the URL of an SQS"
            " queue: correct sqs_queue_url of the step in the pipeline."
        )


def test_step_without_a_token_has_nothing_to_answer_yet() -> None:
    """
    Without a token, there is nothing to answer yet; a step of another type is an error.
    """
    assert running_callback(step("Starting")) is not None
    assert running_callback(step(Metadata=None)) is None
    found = running_callback(step())
    assert found is not None
    assert (found.token.get_secret_value(), found.queue.url) == ("26vcYbeWsZ", QUEUE)
    with pytest.raises(CallbackStepError, match="is a step of type TrainingJob"):
        running_callback(step(Metadata={"TrainingJob": {"Arn": "arn:x"}}))


def test_latest_step_of_a_name_counts() -> None:
    """A step that is listed twice has run twice."""
    old, new = (step(StartTime=f"2026-01-0{day}T00:00:00Z") for day in (1, 2))

    assert find_step([new, old], "Wait") is find_step([old, new], "Wait") is new
    assert find_step([old], "Other") is None
    unknown = step()
    assert find_step([unknown, old], "Wait") is find_step([old, unknown], "Wait") is old


def test_step_waits_until_aws_shows_its_end() -> None:
    """
    It does unless AWS shows that it has ended; steps with other tokens do not count.
    """
    for statuses, expected in (
        ((), True),
        (("Executing",), True),
        ((None,), True),
        (("Succeeded",), False),
        (("Failed", "Executing"), True),
        (("Failed", "Stopped"), False),
    ):
        other = {"Callback": {**METADATA, "CallbackToken": "other"}}
        ended = step("Succeeded", Metadata=other)
        steps = [ended, *map(step, statuses), step("Failed", Metadata=None)]

        assert still_waits(steps, SecretStr("26vcYbeWsZ")) is expected
        assert still_waits(steps, None) is True


def test_recorded_outputs_are_read_as_texts() -> None:
    """What AWS has recorded is read as texts; damaged entries are left out."""
    values = {"a": "1", "c": 2, "d": ""}
    recorded = [{"Name": name, "Value": value} for name, value in values.items()]
    damaged = [{"Name": "b"}, {"Value": "x"}, None, {"Name": "__id__", "Value": "x"}]

    outputs = recorded_outputs(callback(OutputParameters=[*damaged, *recorded]))
    assert outputs == {"a": "1", "c": "2", "d": ""}
    assert recorded_outputs(step(Metadata=None)) == {}
    for other in (False, "x"):
        assert recorded_outputs(callback(OutputParameters=other)) == {}


CURE = (
    "return a dict of at most 50 names to texts, numbers or booleans, or None. A name"
    " has 1 to 256 characters, a value at most 1,024: pass larger data by its S3 URI,"
    " and a nested value as JSON text."
)


def test_what_a_function_may_return_becomes_texts() -> None:
    """What a function may return, up to AWS's limits, as texts."""
    for value, outputs in (
        (None, {}),
        ({}, {}),
        (
            {"a": "x", "b": 5, "c": 0.5, "d": True},
            {"a": "x", "b": "5", "c": "0.5", "d": "True"},
        ),
        ({"n" * 256: "v" * 1024}, {"n" * 256: "v" * 1024}),
        ({"n": ""}, {"n": ""}),
        ({str(n): n for n in range(50)}, {str(n): str(n) for n in range(50)}),
    ):
        assert output_parameters(value) == outputs


def test_what_a_function_may_not_return_is_named_with_the_cure() -> None:
    """The error names the value, and says what to return."""
    for value, problem in (
        (7, "7"),
        (["a"], "a list of 1"),
        ({str(number): number for number in range(51)}, "a dict of 51"),
        ({7: "x"}, "the name 7"),
        ({"": "x"}, "the name ''"),
        ({"a\n": "x"}, "the name 'a\\n'"),
        ({"n" * 257: "x"}, f"the name '{'n' * 60}'... (257 characters)"),
        ({"a": None}, "a = None"),
        ({"a": 10**5000}, "a = a very large int"),
        ({"a": "x\x00"}, r"a = 'x\x00'"),
        ({"a": "v" * 1025}, f"a = '{'v' * 60}'... (1,025 characters)"),
    ):
        with pytest.raises(ParametersError) as caught:
            output_parameters(value)

        assert str(caught.value) == f"The function returned {problem}: {CURE}"


def test_name_of_an_output_that_airflow_reserves_is_refused() -> None:
    """Airflow would refuse the XCom when the step has been answered already."""
    problem = "the name __id__, which Airflow reserves: rename it"
    with pytest.raises(ParametersError, match=problem):
        output_parameters({"__id__": "x"})


THROTTLED = PolysyncError("throttled", permanent=False, transient=True)


def test_wait_ends_with_news_of_the_step() -> None:
    """The wait on a worker and the trigger end with the same news."""
    for status, steps, expected in (
        (None, None, False),
        ("Executing", None, False),
        ("New", None, False),
        ("Executing", [], False),
        ("Executing", [step(StepName="Other"), step()], True),
        (None, [step("Failed")], True),
        # The step can begin no more.
        ("Stopping", None, True),
        ("Stopped", None, True),
        ("Succeeded", None, True),
        # The task looks itself, and says why the steps cannot be listed.
        ("Executing", THROTTLED, False),
        ("Executing", PolysyncError("denied"), True),
        (None, ZeroDivisionError(), True),
    ):
        assert is_news("Wait", status, steps) is expected


def test_same_answer_to_the_same_step_has_the_same_token() -> None:
    """
    The same answer to the same step has the same token, which has a length that AWS
    accepts.
    """
    one = SecretStr("26vcYbeWsZ")
    answers = [
        answer_token(one, "success"),
        answer_token(one, "failure"),
        answer_token(SecretStr("26vcYbeWsY"), "success"),
    ]
    tokens = [answer.get_secret_value() for answer in answers]

    assert len(set(tokens)) == 3
    assert answer_token(one, "success") == answers[0]
    assert all(32 <= len(token) <= 128 for token in tokens)
    assert not any("26vcYbeWs" in token for token in tokens)


def test_reasons_are_one_line_of_text() -> None:
    """
    AWS accepts 256 characters; no line break and no control character gets into its
    lists.
    """
    cleaned = "a b\N{REPLACEMENT CHARACTER}[31m" + "x" * 245 + "..."
    assert failure_reason("a\nb\x1b[31m" + "x" * 300) == cleaned


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


def test_message_of_others_is_copied_before_its_receives_are_used_up() -> None:
    """A copy is made before the receives are used up, and not for ever."""
    for is_own, content, receives, max_receives, age, waits, expected in (
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
    ):
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
