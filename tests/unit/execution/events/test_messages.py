"""
Messages of a queue: AWS's examples are read, everything else is refused with a reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.execution.events import (
    MAX_MESSAGE_BYTES,
    RecentEntries,
    UnreadableMessageError,
    read_message,
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
