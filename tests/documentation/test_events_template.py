"""
The template of CloudFormation on the page "React to events": its stack fills a queue
with the events that watchers read, and its reader may do what it does.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from cfnlint.api import lint_all
from cfnlint.decode import decode_str

from polysync_airflow.auth.iam_policies import QUEUE_OPERATIONS
from polysync_airflow.execution.events import (
    CHANGES,
    SOURCE,
    VISIBILITY_SECONDS,
    WAIT_SECONDS,
    read_message,
)
from polysync_airflow.states import STATE_OF_STATUS, has_ended
from sagemaker_emulator import EmulatorServer
from tests.pages import DOCS, Page
from tests.queue_stack import ACCOUNT, TEMPLATE, create_stack, rules
from tests.unit.events.conftest import client

PAGE: Final = Page(DOCS / "how-to" / "react-to-events.md")
ENDS: Final = [status for status in STATE_OF_STATUS if has_ended(status)]
QUEUE_ARN: Final = {"Fn::GetAtt": ["Queue", "Arn"]}
NOTHING: Final = {"Ref": "AWS::NoValue"}


def template() -> Any:
    """Return the template, with the long names of its functions."""
    content, problems = decode_str(TEMPLATE.read_text())
    assert problems == []
    return content


def properties_of(resource: str) -> Any:
    """Return the properties of a resource of the template."""
    return template()["Resources"][resource]["Properties"]


def changes_in(queue: str, emulator: EmulatorServer) -> list[dict[str, Any]]:
    """Return what the messages of a queue report, as watchers read it."""
    sqs = client(emulator, "sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}
    changes = []
    while messages := sqs.receive_message(**request).get("Messages"):
        changes += [read_message(message["Body"]).payload for message in messages]
    return changes


def change_everything(emulator: EmulatorServer) -> None:
    """Run two pipelines, and register a model package in each of two groups."""
    sagemaker = client(emulator, "sagemaker")
    for pipeline in ("fanout", "churn-tuning"):
        sagemaker.start_pipeline_execution(PipelineName=pipeline)
    for group in ("g-1", "h"):
        sagemaker.create_model_package_group(ModelPackageGroupName=group)
        sagemaker.create_model_package(ModelPackageGroupName=group)
    emulator.control.advance(3 * 3600)


def test_cloudformation_accepts_the_template() -> None:
    """It is as the schemas of the resources say, and all its parameters are used."""
    problems = [
        str(problem)
        for problem in lint_all(TEMPLATE.read_text())
        if problem.rule.severity != "informational"
    ]

    assert problems == []


def test_stack_without_parameters_sends_the_end_of_each_execution(
    emulator: EmulatorServer,
) -> None:
    """The queue gets nothing else; its settings are those that the reader has."""
    outputs = create_stack()

    change_everything(emulator)

    changes = changes_in("sagemaker-events", emulator)
    assert [(change["kind"], change["state"]) for change in changes] == [
        ("execution", "Success"),
        ("execution", "Success"),
    ]
    assert {change["pipeline_name"] for change in changes} == {"fanout", "churn-tuning"}
    sqs = client(emulator, "sqs")
    url = sqs.get_queue_url(QueueName="sagemaker-events")["QueueUrl"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    attributes = answer["Attributes"]
    assert attributes["VisibilityTimeout"] == str(VISIBILITY_SECONDS)
    assert attributes["ReceiveMessageWaitTimeSeconds"] == str(WAIT_SECONDS)
    assert json.loads(attributes["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"{attributes['QueueArn']}-dead-letters",
        "maxReceiveCount": 5,
    }
    assert outputs["QueueUrl"].endswith(f"/{ACCOUNT}/sagemaker-events")
    assert outputs["ReaderPolicyArn"].startswith(f"arn:aws:iam::{ACCOUNT}:policy/")


def test_parameters_select_events(emulator: EmulatorServer) -> None:
    """Only the named pipelines, and also begins, steps and model packages."""
    create_stack(
        QueueName="changes",
        PipelineName="fan*",
        Running="true",
        Steps="true",
        ModelPackageGroup="g-*",
        MaxReceives="7",
    )

    change_everything(emulator)

    changes = changes_in("changes", emulator)
    executions = [change for change in changes if change["kind"] == "execution"]
    steps = [change for change in changes if change["kind"] == "step"]
    packages = [change for change in changes if change["kind"] == "model_package"]
    in_pipelines = [*executions, *steps]
    assert {change["pipeline_name"] for change in in_pipelines} == {"fanout"}
    assert {change["state"] for change in executions} == {"Running", "Success"}
    assert {change["state"] for change in steps} == {"Running", "Success"}
    assert [package["model_package_group"] for package in packages] == ["g-1"]
    sqs = client(emulator, "sqs")
    url = sqs.get_queue_url(QueueName="changes")["QueueUrl"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    assert json.loads(answer["Attributes"]["RedrivePolicy"])["maxReceiveCount"] == 7


@pytest.mark.parametrize(
    ("parameters", "details"),
    [
        (
            {},
            {
                "executions": {
                    "pipelineArn": [{"wildcard": "*:pipeline/*"}],
                    "currentPipelineExecutionStatus": ENDS,
                }
            },
        ),
        (
            {"Steps": "true", "PipelineName": "churn"},
            {
                "executions": {
                    "pipelineArn": [{"wildcard": "*:pipeline/churn"}],
                    "currentPipelineExecutionStatus": ENDS,
                },
                "steps": {
                    "pipelineArn": [{"wildcard": "*:pipeline/churn"}],
                    "currentStepStatus": ENDS,
                },
            },
        ),
        # A model package without a version has no group.
        (
            {"Running": "true", "ModelPackageGroup": "*"},
            {
                "executions": {"pipelineArn": [{"wildcard": "*:pipeline/*"}]},
                "model-packages": None,
            },
        ),
        (
            {"Running": "true", "ModelPackageGroup": "churn"},
            {
                "executions": {"pipelineArn": [{"wildcard": "*:pipeline/*"}]},
                "model-packages": {"ModelPackageGroupName": [{"wildcard": "churn"}]},
            },
        ),
    ],
)
def test_rules_are_those_of_the_parameters(
    parameters: dict[str, str], details: dict[str, Any], emulator: EmulatorServer
) -> None:
    """Each rule has one kind of events that the trigger understands."""
    create_stack(QueueName="q", **parameters)

    patterns = rules()
    assert {
        name.removeprefix("q-"): pattern.get("detail")
        for name, pattern in patterns.items()
    } == details
    for pattern in patterns.values():
        assert pattern["source"] == [SOURCE]
        assert set(pattern["detail-type"]) <= set(CHANGES)


def test_only_the_rules_of_the_stack_may_send_to_the_queue() -> None:
    """The policy of the queue names them, as far as they exist."""
    policy = properties_of("QueuePolicy")
    resources = template()["Resources"]

    (statement,) = policy["PolicyDocument"]["Statement"]
    assert policy["Queues"] == [{"Ref": "Queue"}]
    assert statement["Effect"] == "Allow"
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == QUEUE_ARN
    senders = []
    for name, resource in resources.items():
        if resource["Type"] != "AWS::Events::Rule":
            continue
        sender: dict[str, Any] = {"Fn::GetAtt": [name, "Arn"]}
        if "Condition" in resource:
            sender = {"Fn::If": [resource["Condition"], sender, NOTHING]}
        senders.append(sender)
        assert resource["Properties"]["Targets"] == [{"Id": "queue", "Arn": QUEUE_ARN}]
    assert len(senders) == len(CHANGES)
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": senders}}


def test_reader_may_do_what_it_does() -> None:
    """The policy of the reader allows its operations on the queue."""
    (statement,) = properties_of("ReaderPolicy")["PolicyDocument"]["Statement"]

    assert statement["Effect"] == "Allow"
    assert statement["Action"] == [f"sqs:{operation}" for operation in QUEUE_OPERATIONS]
    assert statement["Resource"] == QUEUE_ARN


@pytest.mark.parametrize(
    ("parameter", "valid", "invalid"),
    [
        ("QueueName", ["q", "a_B-1", "q" * 48], ["", "a b", "q" * 49, "q.fifo"]),
        ("PipelineName", ["*", "churn-*", "A"], ["", "a?", "arn:aws:x/churn", "a b"]),
        ("ModelPackageGroup", ["", "*", "g-1"], ["a?", "a b", "g" * 64]),
    ],
)
def test_name_that_aws_would_refuse_is_no_value(
    parameter: str, valid: list[str], invalid: list[str]
) -> None:
    """The name of a rule has at most 64 characters, with that of the queue."""
    pattern = template()["Parameters"][parameter]["AllowedPattern"]

    for name in valid:
        assert re.fullmatch(pattern, name)
    for name in invalid:
        assert not re.fullmatch(pattern, name)


def test_page_has_the_parameters() -> None:
    """The page names them, and gives no others in its commands."""
    parameters = template()["Parameters"]

    assert [name for name in parameters if f"`{name}`" not in PAGE.text] == []
    assert [name for name in parameters if not parameters[name]["Description"]] == []
    assignments = re.findall(r"\b([A-Z]\w+)=", PAGE.text)
    assert assignments
    assert set(assignments) <= set(parameters)
    assert f"](../assets/{TEMPLATE.name})" in PAGE.text
