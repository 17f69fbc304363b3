"""Executions that have ended are kept in a compact form, and not without limit."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import pytest

from sagemaker_emulator import EXAMPLE_DEFINITIONS, Limits, VirtualClock
from sagemaker_emulator.builders import ROLE
from sagemaker_emulator.engine import scenarios
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.api import SageMaker
from sagemaker_emulator.sagemaker.store import EndedExecution, Region
from tests.builders import Services, chain

REGION = "us-east-1"
DAY = 24 * 3600.0
SCENARIO = {"steps": {"A": {"property_files": {"File": {"auc": 0.9}}}}}
SUMMARIES = "PipelineExecutionSummaries"
PARAMETERS = {"abalone": [{"Name": "InputDataUrl", "Value": "s3://bucket/data.csv"}]}


class Account:
    """The API without a server, and the other services that it writes to."""

    def __init__(self, **limits: Any) -> None:
        self.clock = VirtualClock()
        self.services = Services()
        self.api = SageMaker(self.clock, self.services, "seed", Limits(**limits))

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Return a response."""
        return self.api.call(operation, REGION, request)[0]

    def create(self, name: str, text: str) -> None:
        """Create a pipeline."""
        token = name.ljust(32, "-")
        self.call(
            "CreatePipeline",
            PipelineName=name,
            PipelineDefinition=text,
            RoleArn=ROLE,
            ClientRequestToken=token,
        )

    def start(self, name: str, number: int = 0) -> str:
        """Start an execution with a token of its own."""
        response = self.call(
            "StartPipelineExecution",
            PipelineName=name,
            ClientRequestToken=f"{number:032}",
            PipelineParameters=PARAMETERS.get(name, []),
        )
        return str(response["PipelineExecutionArn"])

    def settle(self) -> None:
        """Let the emulator notice which executions have ended."""
        self.call("Search", Resource="PipelineExecution")

    @property
    def region(self) -> Region:
        """The state of the region."""
        return self.api.regions[REGION]

    def ended(self) -> list[EndedExecution]:
        """Return the executions in their compact form."""
        return [
            entry
            for pipeline in self.region.pipelines.values()
            for entry in pipeline.executions.entries()
            if isinstance(entry, EndedExecution)
        ]


def size(entry: EndedExecution) -> int:
    """Return how many bytes an execution takes that it does not share with others."""
    values = [getattr(entry, field.name) for field in fields(entry)]
    own = [entry, *entry.record, *(each for each in values if each != entry.version)]
    return sum(sys.getsizeof(each) for each in own)


@pytest.mark.parametrize("name", ["abalone", "fanout"])
def test_reads_find_everything_in_few_bytes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each read says of the compact form what it says of the execution before, with the
    jobs of the steps.
    """
    account = Account()
    account.create(name, (EXAMPLE_DEFINITIONS / f"{name}.json").read_text())
    account.api.set_scenario(None, scenarios.parse(SCENARIO))
    with monkeypatch.context() as patch:
        patch.setattr(Region, "close", lambda *_: None)
        arn = account.start(name)
        account.clock.advance(DAY)
        before = read(account, name, arn)
        scope = account.region.execution(arn).engine.scope
    assert account.ended() == []

    account.settle()
    (entry,) = account.ended()

    assert read(account, name, arn) == before
    kept = account.region.execution(arn).engine.scope
    assert kept.property_files == scope.property_files != {}
    assert len(before) > 7
    assert size(entry) < 5000
    assert account.ended() == [entry]


def read(account: Account, name: str, arn: str) -> list[Any]:
    """Return all that can be read about an execution."""
    steps = account.call("ListPipelineExecutionSteps", PipelineExecutionArn=arn)
    jobs = [
        step["Metadata"][kind]["Arn"]
        for step in steps["PipelineExecutionSteps"]
        for kind in step.get("Metadata", {})
        if kind in ("ProcessingJob", "TrainingJob")
    ]
    operations = [
        "DescribePipelineExecution",
        "DescribePipelineDefinitionForExecution",
        "ListPipelineParametersForExecution",
    ]
    responses = [
        steps,
        account.call("ListPipelineExecutions", PipelineName=name),
        account.call("Search", Resource="PipelineExecution"),
        *(account.call(each, PipelineExecutionArn=arn) for each in operations),
    ]
    for job in jobs:
        resource, _, job_name = job.rpartition(":")[2].partition("/")
        kind = resource.partition("-")[0].title()
        request = {f"{kind}JobName": job_name}
        responses.append(account.call(f"Describe{kind}Job", **request))
    return responses


def test_oldest_are_removed() -> None:
    """
    Only the number that was given is kept, with the tokens of their starts; those that
    run are not counted.
    """
    account = Account(max_ended_executions=2)
    account.create("P", chain("A"))
    arns = []
    for number in range(4):
        arns.append(account.start("P", number))
        account.clock.advance(DAY)
    account.settle()
    running = account.start("P", 4)

    listed = account.call("ListPipelineExecutions", PipelineName="P")
    shown = [each["PipelineExecutionArn"] for each in listed[SUMMARIES]]

    assert shown == [running, arns[3], arns[2]]
    with pytest.raises(ApiError, match="ResourceNotFound"):
        account.call("DescribePipelineExecution", PipelineExecutionArn=arns[1])
    assert account.start("P", 3) == arns[3]
    assert account.start("P", 1) not in arns


def test_retry_of_an_old_execution() -> None:
    """What a request changes is kept, and ends again."""
    account = Account()
    account.create("P", chain("A"))
    arn = account.start("P")
    account.call(
        "StopPipelineExecution", PipelineExecutionArn=arn, ClientRequestToken="s" * 32
    )
    account.clock.advance(DAY)
    account.settle()
    assert [entry.arn for entry in account.ended()] == [arn]

    account.call(
        "RetryPipelineExecution", PipelineExecutionArn=arn, ClientRequestToken="r" * 32
    )
    assert account.ended() == []
    account.clock.advance(DAY)
    account.call(
        "UpdatePipelineExecution",
        PipelineExecutionArn=arn,
        PipelineExecutionDescription="again",
    )

    described = account.call("DescribePipelineExecution", PipelineExecutionArn=arn)
    assert described["PipelineExecutionStatus"] == "Succeeded"
    assert described["PipelineExecutionDescription"] == "again"
    assert [entry.arn for entry in account.ended()] == [arn]


def test_logs_are_written_for_whom_they_are_read() -> None:
    """
    A client that reads the logs of one execution does not let the emulator write those
    of all others; one that looks at all does, once.
    """
    account = Account()
    account.create("P", chain("A"))
    ids = [account.start("P", number).rpartition("/")[2] for number in range(2)]
    account.clock.advance(DAY)
    account.settle()

    account.api.publish_logs(REGION, f"pipelines-{ids[0]}-A-0123456789/algo-1")
    assert [name.split("-")[1] for name in account.services.streams] == ids[:1]

    account.services.streams.clear()
    account.api.publish_logs(REGION, "")
    assert {name.split("-")[1] for name in account.services.streams} == set(ids)
    account.services.streams.clear()
    account.api.publish_logs(REGION, "")
    assert account.services.streams == {}


def test_deleted_pipeline_leaves_nothing() -> None:
    """Its executions do not count any more, and their logs stay in CloudWatch Logs."""
    account = Account(max_ended_executions=1)
    for name in ("P", "Q"):
        account.create(name, chain("A"))
        account.start(name, ord(name))
        account.clock.advance(DAY)
        account.settle()
        if name == "P":
            account.call(
                "DeletePipeline", PipelineName="P", ClientRequestToken="d" * 32
            )

    assert [entry.arn.split("/")[1] for entry in account.ended()] == ["Q"]
    assert len(account.services.streams) == 1
