"""
``polysync events``: what it prints fills a queue, if it is created; and a look at the
queue leaves it as it is.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import QUEUE_OPERATIONS
from sagemaker_emulator import EmulatorServer
from tests.unit.cli.conftest import Polysync, Terminal
from tests.unit.events.conftest import client
from tests.unit.execution.events.samples import execution

ACCOUNT = "123456789012"
REGION = "us-east-1"
QUEUE_ARN = f"arn:aws:sqs:{REGION}:{ACCOUNT}:changes"
SETUP = [
    "events",
    "setup",
    "--queue=changes",
    "--pipeline=Fanout",
    "--steps",
    "--model-package-group=g",
]


def create_stack(emulator: EmulatorServer, text: str) -> None:
    """
    Create the resources of a template of CloudFormation, in which each reference must
    lead to one before it.
    """
    sqs = client(emulator, "sqs")
    events = client(emulator, "events")
    # What Fn::GetAtt and Ref return for a resource.
    arns: dict[str, str] = {}
    ids: dict[str, str] = {}

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            if list(value) == ["Fn::GetAtt"]:
                name, attribute = value["Fn::GetAtt"]
                assert attribute == "Arn"
                return arns[name]
            if list(value) == ["Ref"]:
                return ids[value["Ref"]]
            return {key: resolve(member) for key, member in value.items()}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    template = json.loads(text)
    # CloudFormation creates a policy after the rules to which it refers.
    for name, resource in sorted(
        template["Resources"].items(),
        key=lambda item: item[1]["Type"] == "AWS::SQS::QueuePolicy",
    ):
        properties = resolve(resource["Properties"])
        if resource["Type"] == "AWS::SQS::Queue":
            queue = properties.pop("QueueName")
            attributes = {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in properties.items()
            }
            created = sqs.create_queue(QueueName=queue, Attributes=attributes)
            ids[name] = created["QueueUrl"]
            arns[name] = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
        elif resource["Type"] == "AWS::Events::Rule":
            pattern = json.dumps(properties["EventPattern"])
            rule = events.put_rule(Name=properties["Name"], EventPattern=pattern)
            arns[name] = rule["RuleArn"]
            events.put_targets(Rule=properties["Name"], Targets=properties["Targets"])
        elif resource["Type"] == "AWS::SQS::QueuePolicy":
            policy = {"Policy": json.dumps(properties["PolicyDocument"])}
            for url in properties["Queues"]:
                sqs.set_queue_attributes(QueueUrl=url, Attributes=policy)
        else:
            assert resource["Type"] == "AWS::IAM::ManagedPolicy"
            ids[name] = "policy"
    resolve(template["Outputs"])


RULES = ("executions", "steps", "model-packages")


def test_template_fills_a_queue(polysync: Polysync, emulator: EmulatorServer) -> None:
    """
    Created as printed, the rules send the ends of the pipeline's executions and steps,
    and nothing else.
    """
    done = polysync(*SETUP)
    assert done.code == 0
    assert done.err == ""
    create_stack(emulator, done.out)
    sqs = client(emulator, "sqs")
    sagemaker = client(emulator, "sagemaker")

    for name in ("fanout", "churn-tuning"):
        sagemaker.start_pipeline_execution(PipelineName=name)
    for group in ("g", "h"):
        sagemaker.create_model_package_group(ModelPackageGroupName=group)
        sagemaker.create_model_package(ModelPackageGroupName=group)
    emulator.control.advance(3 * 3600)

    url = sqs.get_queue_url(QueueName="changes")["QueueUrl"]
    bodies = []
    request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}
    while messages := sqs.receive_message(**request).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in messages]
    details = [body["detail"] for body in bodies]

    def values_of(member: str) -> list[str]:
        return [detail[member] for detail in details if member in detail]

    pipelines = {arn.rpartition("/")[2] for arn in values_of("pipelineArn")}
    assert pipelines == {"fanout"}
    assert values_of("currentPipelineExecutionStatus") == ["Succeeded"]
    assert set(values_of("currentStepStatus")) == {"Succeeded"}
    assert values_of("ModelPackageGroupName") == ["g"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    attributes = answer["Attributes"]
    assert json.loads(attributes["RedrivePolicy"]) == {
        "deadLetterTargetArn": f"{QUEUE_ARN}-dead-letters",
        "maxReceiveCount": 5,
    }
    assert attributes["VisibilityTimeout"] == "30"
    assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == QUEUE_ARN
    prefix = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/changes-"
    rules = [f"{prefix}{name}" for name in RULES]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rules}}


def test_the_reader_may_do_what_it_does(polysync: Polysync) -> None:
    """The printed policy allows the operations of the reader on the queue."""
    resources = polysync(*SETUP).document["Resources"]
    policy = resources["ReaderPolicy"]["Properties"]["PolicyDocument"]

    (statement,) = policy["Statement"]
    assert statement["Action"] == [f"sqs:{operation}" for operation in QUEUE_OPERATIONS]
    assert statement["Resource"] == [{"Fn::GetAtt": ["Queue", "Arn"]}]


def test_template_without_names_selects_all_pipelines(polysync: Polysync) -> None:
    """
    Without names, the rule has all executions; with --running also those that begin.
    """
    patterns = []
    for more in ([], ["--running"]):
        template = polysync("events", "setup", "--queue", "changes", *more).document
        resources = template["Resources"]
        (rule,) = [name for name in resources if name.endswith("Rule")]
        assert rule == "ExecutionsRule"
        patterns.append(resources[rule]["Properties"]["EventPattern"].get("detail"))

    ends = ["Succeeded", "Failed", "CompletedWithFailures", "Stopped"]
    assert patterns == [{"currentPipelineExecutionStatus": ends}, None]


OF_QUEUE = ["--queue", "q"]
MANY_PIPELINES = [f"--pipeline={'x' * 100}{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["--queue", "a b"],
            "--queue 'a b' is not a name of 1 to 48 letters, digits, '-' and '_'.",
        ),
        (
            ["--queue", "x" * 49],
            "is not a name of 1 to 48 letters, digits, '-' and '_'.",
        ),
        (["--queue", ""], "--queue is empty: give a value."),
        (
            [*OF_QUEUE, "--pipeline=a*"],
            "--pipeline 'a*' has a wildcard, which allows more than one: "
            "give one for each.",
        ),
        (
            [*OF_QUEUE, "--model-package-group=-"],
            "--model-package-group '-' is not the name of a model package group.",
        ),
        ([*OF_QUEUE, "--max-receives", "2"], "--max-receives 2: give 3 to 1000."),
        (
            [*OF_QUEUE, *MANY_PIPELINES],
            "The pattern of the rule executions has more than 2,048 characters: ",
        ),
    ],
)
def test_wrong_option_is_an_error_of_one_line(
    arguments: list[str], problem: str, polysync: Polysync
) -> None:
    """The error is one line with the option, its value and the cure."""
    done = polysync("events", "setup", *arguments)

    assert problem in done.refusal


def test_tail_leaves_the_messages(polysync: Polysync, emulator: EmulatorServer) -> None:
    """
    It shows what watchers would get, and what nobody can read; all messages are visible
    again afterwards.
    """
    sqs = client(emulator, "sqs")
    url = sqs.create_queue(QueueName="changes")["QueueUrl"]
    for body in (execution(), "s3cret"):
        sqs.send_message(QueueUrl=url, MessageBody=body)

    done = polysync("events", "tail", "--queue-url", url, "--seconds", 1, "--yes")
    first = polysync("events", "tail", "--queue-url", url, "--max-messages", 1, "--yes")

    change, unreadable = map(json.loads, done.out.splitlines())
    assert done.code == 0
    assert done.err == "2 messages; none was deleted\n"
    assert change["state"] == "Success"
    assert change["pipeline_name"] == "myPipeline-123"
    assert unreadable["unreadable"].startswith("it is not JSON")
    assert "s3cret" not in done.out
    assert first.out.count("\n") == 1
    messages = (change, unreadable, first.document)
    assert [message["receives"] for message in messages] == [1, 1, 2]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    attributes = answer["Attributes"]
    assert [attributes[name] for name in names] == ["2", "0"]
    assert emulator.control.calls("DeleteMessageBatch") == []


@pytest.mark.parametrize(
    ("answer", "code", "receives"), [("y\n", 0, 1), ("\n", 1, 0), (None, 2, 0)]
)
def test_tail_asks_before_it_receives(
    answer: str | None,
    code: int,
    receives: int,
    polysync: Polysync,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It says what a receive does. Without a terminal, it refuses; then, and without a
    yes, nothing is received.
    """
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    sqs = client(emulator, "sqs")
    url = sqs.create_queue(QueueName="changes")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=execution())

    done = polysync("events", "tail", "--queue-url", url, "--max-messages", 1)

    assert "SQS moves it to the dead-letter queue" in done.err
    assert ("add --yes" in done.err) == (answer is None)
    assert done.code == code
    assert done.out.count("\n") == receives
    assert len(emulator.control.calls("ReceiveMessage")) == receives


def test_tail_of_a_queue_that_does_not_exist_is_an_error(
    polysync: Polysync, emulator: EmulatorServer
) -> None:
    """A queue that does not exist is an error of one line."""
    url = f"{emulator.endpoint_url}/{ACCOUNT}/none"
    done = polysync("events", "tail", "--queue-url", url, "--yes")

    assert "There is no queue" in done.refusal
