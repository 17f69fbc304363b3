"""
Messages of a queue: AWS's examples are read, everything else is refused with a reason;
what a watcher wants, and whether others receive them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events import (
    CHECK_EVERY_SECONDS,
    MAX_MESSAGE_BYTES,
    MIN_RECEIVES,
    RETURN_SECONDS,
    ConsumerCheck,
    RecentEntries,
    UnreadableMessageError,
    check_watcher,
    read_message,
    region_of_queue,
)
from tests.unit.execution.events.samples import (
    EXECUTION_ARN,
    PACKAGE_ARN,
    event,
    execution,
    model_package,
    of_step,
)

CONSOLE = (
    "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/pipelines/myPipeline-123/executions/"
    + EXECUTION_ARN
)


OF_EXECUTION = {
    "execution_arn": EXECUTION_ARN,
    "pipeline_name": "myPipeline-123",
    "console_url": CONSOLE,
}


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (
            execution(),
            {
                "kind": "execution",
                **OF_EXECUTION,
                "state": "Success",
                "status": "Succeeded",
                "previous_status": "Executing",
                "display_name": "SomeDisplayName",
                "started_at": "2021-03-15T16:03:13+00:00",
                "ended_at": "2021-03-15T16:10:10+00:00",
                "changed_at": "2021-03-15T16:10:11+00:00",
            },
        ),
        (
            of_step("Failed", failureReason="No data\nat \x1b[31mall"),
            {
                "kind": "step",
                **OF_EXECUTION,
                "step_name": "myprocessingstep1",
                "step_type": "Processing",
                "state": "Failed",
                "status": "Failed",
                "previous_status": "Executing",
                "reason": "No data\nat \N{REPLACEMENT CHARACTER}[31mall",
                "started_at": "2021-03-15T16:03:14+00:00",
                "ended_at": "2021-03-15T16:10:09+00:00",
                "changed_at": "2021-03-15T16:10:11+00:00",
            },
        ),
        (
            model_package(),
            {
                "kind": "model_package",
                "model_package_arn": PACKAGE_ARN,
                "model_package_group": "versionedmp-p-idy6c3e1fiqj",
                "model_package_version": 2,
                "approval_status": "Rejected",
                "status": "Completed",
                **OF_EXECUTION,
                "created_at": "2021-02-24T17:00:14+00:00",
                "changed_at": "2021-02-24T17:00:15+00:00",
            },
        ),
    ],
)
def test_events_of_the_documentation_become_small_json(
    body: str, payload: dict[str, Any]
) -> None:
    """
    The examples of AWS's documentation become small JSON, whose texts are cleaned.
    """
    change = read_message(body)

    assert change.payload == payload
    assert json.loads(json.dumps(change.payload)) == payload


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
def test_missing_and_damaged_members_of_an_event_are_left_out() -> None:
    """
    A start has no previous status and no end; other members, and times that are
    damaged, do not count.
    """
    body = execution(
        "Executing",
        previousPipelineExecutionStatus=None,
        executionStartTime="yesterday",
        executionEndTime=None,
        event_time="1999-01-01T00:00:00Z",
        kind="x",
        new={"a": 1},
    )

    payload = read_message(body).payload

    assert (payload["state"], payload["previous_status"]) == ("Running", None)
    assert payload["started_at"] is None
    assert payload["changed_at"] == "2021-03-15T16:10:11+00:00"
    assert read_message(execution("Pausing")).payload["state"] == "Unknown"
    # AWS's times are in UTC, wherever the host is.
    for text, expected in (
        ("2021-03-15T16:10:11", "2021-03-15T16:10:11+00:00"),
        ("2021-03-15T17:10:11+01:00", "2021-03-15T16:10:11+00:00"),
        ("2001-09-09T01:46:40Z", "2001-09-09T01:46:40+00:00"),
        ("2001-09-09T01:46:39Z", None),
        ("2286-11-20T17:46:40Z", "2286-11-20T17:46:40+00:00"),
        ("2286-11-20T17:46:41Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59Z", None),
    ):
        payload = read_message(execution(executionStartTime=text)).payload
        assert payload["started_at"] == expected
    by_hand = model_package(MetadataProperties={"GeneratedBy": "me"})
    assert read_message(by_hand).payload["execution_arn"] is None


OF_LONG_NAMES = f"^it is an event '{'x' * 77}...' of '{'y' * 77}...', for which"
OF_TRAINING = "SageMaker Training Job State Change"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (None, "^it is no text$"),
        (event("x" * 81, {}, source="y" * 81), OF_LONG_NAMES),
        (execution().replace('"aws.sagemaker"', '["aws.sagemaker", "x"]'), "source"),
        ("{", "^it is not JSON: "),
        ("[]", "no event of EventBridge"),
        ('{"detail-type": 1}', "^it is no event of EventBridge: detail-type: "),
        (json.dumps({"a": "x" * MAX_MESSAGE_BYTES}), "more than 262,144 bytes"),
        (
            event(OF_TRAINING, {}),
            f"'{OF_TRAINING}' of 'aws.sagemaker', for which there are no watchers$",
        ),
        (execution().replace("aws.sagemaker", "me"), "of 'me'"),
        (execution(pipelineExecutionArn="arn:aws:s3:::x"), "pipelineExecutionArn"),
        (execution("{{ conn.x.password }}"), "currentPipelineExecutionStatus"),
        (execution().replace("2021-03-15T16:10:11Z", "soon"), "^it has no time$"),
        (of_step(stepName=""), "stepName"),
        (of_step(stepName=["a"]), "stepName"),
        (model_package(ModelPackageArn="x\ny"), "ModelPackageArn"),
        (model_package(ModelPackageVersion=-1), "ModelPackageVersion"),
    ],
)
def test_message_that_is_no_event_is_unreadable(body: Any, problem: str) -> None:
    """The reason is one line, and has no value that may be secret."""
    with pytest.raises(UnreadableMessageError, match=problem) as caught:
        read_message(body)

    assert "\n" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_message_of_exactly_the_limit_is_read() -> None:
    """
    A message of exactly EventBridge's limit is read, counted in characters and in
    bytes.
    """
    body = execution()
    wide = body.replace("SomeDescription", "\N{EURO SIGN}" * 1000)
    wide = wide.encode().decode("unicode-escape")

    for text in (body, wide):
        largest = text + " " * (MAX_MESSAGE_BYTES - len(text.encode()))
        assert read_message(largest).payload["status"] == "Succeeded"
        with pytest.raises(UnreadableMessageError, match="more than"):
            read_message(largest + " ")


def test_same_change_has_the_same_key_in_each_event() -> None:
    """
    Another event for the same end is the same change; a resume, another status or
    another step is not.
    """
    first = read_message(execution("Failed")).key
    later = "2021-03-15T16:10:59Z"

    repeated = execution("Failed").replace("2021-03-15T16:10:11Z", later)
    assert read_message(repeated).key == first
    different = [
        # It was resumed and has failed again.
        execution("Failed", executionEndTime=later),
        execution("Stopped"),
        execution("Failed", pipelineExecutionArn=EXECUTION_ARN.replace("p4jn", "q4jn")),
        execution("Executing"),
        execution("Executing").replace("2021-03-15T16:10:11Z", later),
        of_step("Failed"),
        of_step("Failed", stepName="other"),
        of_step("Failed", stepEndTime=later),
        model_package("Approved"),
        model_package("Rejected"),
        model_package("Rejected", LastModifiedTime=later),
    ]
    keys = [first, *(read_message(body).key for body in different)]
    assert len(set(keys)) == len(keys)


def test_entries_that_were_not_seen_lately_are_forgotten() -> None:
    """What was added or found last is known, the rest is forgotten."""
    memory = RecentEntries(2)

    assert [memory.add(entry) for entry in "aabac"] == [True, False, True, False, True]
    assert ["a" in memory, "b" in memory, "c" in memory] == [True, False, True]


URL = "https://sqs.us-east-1.amazonaws.com/123456789012/changes"
REQUIRED = {"queue_url": URL, "polysync_conn_id": "polysync_default"}


ALL_MODELS = {"model_package_groups": ["*"]}
WITHOUT_GROUP = model_package(ModelPackageGroupName=None)
NO_STATE = "which is none of Success, Failed, Cancelled, Running"
TOGETHER = "model_package_groups is given together with pipelines or steps"
NAMES = (
    r"Give a list of 1 to 200 names, in which \* and \? stand for any characters, or"
    r" leave it out to watch executions\.$"
)


@pytest.mark.parametrize(
    ("arguments", "body", "wanted"),
    [
        ({}, execution("Succeeded"), True),
        ({}, execution("Stopped"), True),
        ({}, execution("Executing"), False),
        ({}, of_step(), False),
        ({"states": ["Running"]}, execution("Executing"), True),
        ({"pipelines": ["myPipeline-123"]}, execution(), True),
        ({"pipelines": ["MYPIPELINE-*", "x"]}, execution(), True),
        ({"pipelines": ["myPipeline"]}, execution(), False),
        ({"steps": ["*"]}, execution(), False),
        ({"steps": ["myprocessingstep?"]}, of_step(), True),
        ({"steps": ["MyProcessingStep1"]}, of_step(), False),
        ({"steps": ["*"]}, of_step("Starting"), False),
        ({"steps": ["*"], "states": ["Running"]}, of_step("Starting"), True),
        ({"steps": ["*"], "pipelines": ["other"]}, of_step(), False),
        ({"model_package_groups": ["versionedmp-*"]}, model_package(), True),
        ({**ALL_MODELS, "states": ["Approved"]}, model_package("Rejected"), False),
        ({"model_package_groups": ["other"]}, model_package(), False),
        (ALL_MODELS, model_package(ModelPackageGroupName=None), True),
        ({"model_package_groups": ["?*"]}, WITHOUT_GROUP, False),
        (ALL_MODELS, execution(), False),
    ],
)
def test_watcher_wants_changes_of_its_names_and_states(
    arguments: dict[str, Any], body: str, wanted: bool
) -> None:
    """
    A watcher wants changes of one kind, by names and states; pipelines also in another
    case.
    """
    assert check_watcher({**REQUIRED, **arguments}).wants(read_message(body)) is wanted


def test_wrong_argument_is_refused_with_its_value_and_the_cure() -> None:
    """The error names the argument, its value and the cure."""
    for arguments, problem in (
        ({"queue_url": "changes"}, "= 'changes'.*Give the URL of a standard queue"),
        ({"queue_url": f"{URL}.fifo"}, "queue_url = .*not .fifo"),
        ({"polysync_conn_id": ""}, "polysync_conn_id = ''.*Give the id of"),
        ({"region_name": "Frankfurt"}, "= 'Frankfurt'.*Give the AWS region"),
        (
            {"region_name": "eu-west-1"},
            "region_name = 'eu-west-1' is not the region of the queue, 'us-east-1'",
        ),
        ({"pipelines": []}, "pipelines = a list of 0.*Give a list of 1 to 200 names"),
        ({"pipelines": ["a", "a b"]}, r"pipelines\[1\] = 'a b'"),
        ({"pipelines": ["x"] * 201}, "pipelines = a list of 201"),
        ({"steps": ["a", ["b"]]}, rf"steps\[1\] = a list of 1: .* string\. {NAMES}"),
        ({"states": ["Done"]}, f"states has 'Done', {NO_STATE}"),
        ({**ALL_MODELS, "states": ["Success"]}, "Approved, Rejected, PendingManual"),
        ({**ALL_MODELS, "steps": ["s"]}, f"{TOGETHER}: use a watcher for each"),
        ({"other": 1}, "other = 1: Extra inputs are not permitted."),
        ({"a\nb": 1}, "a b = 1"),
    ):
        with pytest.raises(ParametersError) as caught:
            check_watcher({**REQUIRED, **arguments})

        first, line = str(caught.value).split("\n")
        assert first == "Nothing is watched, because these arguments are not valid:"
        assert re.search(f"^- .*{problem}", line)


def test_region_of_the_queue_is_in_its_url() -> None:
    """The URL of a queue of AWS has its region."""
    for url, region in (
        (URL, "us-east-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/changes", "cn-north-1"),
        (
            "https://sqs.eusc-de-east-1.amazonaws.eu/123456789012/changes",
            "eusc-de-east-1",
        ),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/changes",
            "us-gov-west-1",
        ),
        ("http://127.0.0.1:4599/123456789012/changes", None),
    ):
        assert check_watcher({**REQUIRED, "queue_url": url}).region == region
        assert region_of_queue("changes") is None


BEGUN = 1000.0


def check(*given_back: str) -> ConsumerCheck:
    """Return a check that has given messages back."""
    made = ConsumerCheck()
    assert made.is_due(BEGUN)
    made.begin(given_back, BEGUN)
    return made


def test_message_is_missing_only_after_time_and_room_to_return() -> None:
    """
    Only what has not returned although it had the time, and receives had the room.
    """
    for received, has_room, seconds, missing in (
        ([[]] * MIN_RECEIVES, True, RETURN_SECONDS, {"a", "b"}),
        ([["a"], *[[]] * (MIN_RECEIVES - 1)], True, RETURN_SECONDS, {"b"}),
        ([["a", "c"], ["b"], *[[]] * MIN_RECEIVES], True, RETURN_SECONDS, set()),
        # A killed process may have received it, and keeps it until its visibility
        # timeout has passed.
        ([[]] * 10, True, RETURN_SECONDS - 1, set()),
        # While there are more messages than a receive brings, it may be one of those
        # that follow.
        ([["c"]] * 100, False, RETURN_SECONDS * 100, set()),
        ([[]] * (MIN_RECEIVES - 1), True, RETURN_SECONDS, set()),
    ):
        made = check("a", "b")
        now = BEGUN + seconds

        found = [made.missing(ids, has_room=has_room, now=now) for ids in received]

        assert found == [*[set()] * (len(received) - 1), missing]


def test_consumers_are_checked_once_a_day() -> None:
    """
    Before the first one, nothing is missing; the next one is a day later, also for what
    joined meanwhile.
    """
    assert ConsumerCheck().missing(["a"], has_room=True, now=BEGUN) == set()
    made = check("a")

    assert not made.is_due(BEGUN + CHECK_EVERY_SECONDS - 1)
    assert made.is_due(BEGUN + CHECK_EVERY_SECONDS)
    made.begin(["b"], BEGUN + CHECK_EVERY_SECONDS)
    end = BEGUN + CHECK_EVERY_SECONDS + RETURN_SECONDS
    missing = [
        made.missing([], has_room=True, now=end) for _ in range(MIN_RECEIVES + 1)
    ]
    assert missing == [set(), set(), {"b"}, set()]
