"""Tests of the operations on pipelines and their versions, through boto3."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer, Limits, VirtualClock
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.api import SageMaker
from tests.builders import Services, chain
from tests.conftest import ClientOf

HAS_ALIASES = "PipelineVersionAlias" in (
    boto3.client("sagemaker", region_name="us-east-1")
    .meta.service_model.operation_model("StartPipelineExecution")
    .input_shape.members
)


def error_of(call: Callable[..., Any], **request: Any) -> tuple[str, str]:
    """Make a call that must fail, and return the code and the message of its error."""
    with pytest.raises(ClientError) as error:
        call(**request)
    return error.value.response["Error"]["Code"], error.value.response["Error"][
        "Message"
    ]


def test_describe_returns_the_create_request(
    sagemaker: Any, server: EmulatorServer
) -> None:
    """
    DescribePipeline returns what was passed to CreatePipeline, and the ARN has the name
    as it was written.
    """
    text = chain("A")
    created = sagemaker.create_pipeline(
        PipelineName="MyPipeline",
        PipelineDisplayName="Shown",
        PipelineDescription="Why",
        PipelineDefinition=text,
        RoleArn=ROLE,
        ParallelismConfiguration={"MaxParallelExecutionSteps": 3},
    )
    assert (
        created["PipelineArn"]
        == "arn:aws:sagemaker:us-east-1:123456789012:pipeline/MyPipeline"
    )
    described = sagemaker.describe_pipeline(PipelineName="MyPipeline")
    assert described["PipelineName"] == "MyPipeline"
    assert described["PipelineDisplayName"] == "Shown"
    assert described["PipelineDescription"] == "Why"
    assert described["PipelineDefinition"] == text
    assert described["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 3}
    assert described["PipelineStatus"] == "Active"
    assert described["CreationTime"] == datetime.fromtimestamp(server.clock.now(), UTC)
    assert "LastRunTime" not in described


@pytest.mark.parametrize(
    "name", ["Demo", "arn:aws:sagemaker:us-east-1:123456789012:pipeline/demo"]
)
def test_pipeline_is_found_by_name_or_arn(
    create: Callable[..., str], sagemaker: Any, name: str
) -> None:
    """The operations accept an ARN instead of a pipeline name."""
    create(chain("A"))
    assert sagemaker.describe_pipeline(PipelineName=name)["PipelineName"] == "Demo"
    assert sagemaker.list_pipeline_versions(PipelineName=name)[
        "PipelineVersionSummaries"
    ]
    arn = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    summaries = sagemaker.list_pipeline_executions(PipelineName=name)[
        "PipelineExecutionSummaries"
    ]
    assert [entry["PipelineExecutionArn"] for entry in summaries] == [arn]


def test_unknown_pipeline_is_not_found(sagemaker: Any) -> None:
    """The error contains the ARN of the pipeline that does not exist."""
    assert error_of(sagemaker.describe_pipeline, PipelineName="Nope") == (
        "ResourceNotFound",
        "Pipeline 'arn:aws:sagemaker:us-east-1:123456789012:pipeline/Nope' does not exist.",
    )


def test_pipeline_name_must_be_unique(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """
    A second pipeline with the same name is rejected with the message that the SageMaker
    Python SDK checks for.
    """
    create(chain("A"))
    code, message = error_of(
        sagemaker.create_pipeline,
        PipelineName="Demo",
        PipelineDefinition=chain("A"),
        RoleArn=ROLE,
    )
    assert code == "ValidationException"
    assert "Pipeline names must be unique within an AWS account and region" in message


def test_invalid_definition_is_rejected(sagemaker: Any) -> None:
    """The error of CreatePipeline says what is invalid in the definition."""
    code, message = error_of(
        sagemaker.create_pipeline,
        PipelineName="Demo",
        PipelineDefinition="{}",
        RoleArn=ROLE,
    )
    assert (code, message) == (
        "ValidationException",
        "Unable to parse pipeline definition. Model Validation failed: 'Steps' is missing or empty",
    )


@pytest.mark.parametrize("operation", ["create_pipeline", "update_pipeline"])
def test_type_of_a_step_that_aws_does_not_have(
    create: Callable[..., str], sagemaker: Any, operation: str
) -> None:
    """
    The error names the type, and those that AWS has. The pipeline stays as it was.
    """
    create(chain("A"))
    wrong = definition(step("A", "Trainning"))
    request = {"RoleArn": ROLE} if operation == "create_pipeline" else {}
    name = "New" if request else "Demo"
    code, message = error_of(
        getattr(sagemaker, operation),
        PipelineName=name,
        PipelineDefinition=wrong,
        **request,
    )
    assert code == "ValidationException"
    assert message.startswith(
        "Unable to parse pipeline definition. Model Validation failed: Value 'Trainning' for 'StepType' "
        "failed to satisfy enum value set: [Athena, AutoML, BedrockCustomModel, "
    )
    assert message.endswith(
        ", QualityCheck, RegisterModel, Training, Transform, Tuning]"
    )
    listed = sagemaker.list_pipelines()["PipelineSummaries"]
    assert [entry["PipelineName"] for entry in listed] == ["Demo"]
    assert sagemaker.describe_pipeline(PipelineName="Demo")[
        "PipelineDefinition"
    ] == chain("A")


def test_definition_in_s3(client_of: ClientOf, sagemaker: Any) -> None:
    """
    CreatePipeline reads a definition from moto's S3, and returns an error if the object
    does not exist.
    """
    s3 = client_of("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a/b.json", Body=chain("A").encode())
    location = {"Bucket": "bucket", "ObjectKey": "a/b.json"}
    sagemaker.create_pipeline(
        PipelineName="Demo", PipelineDefinitionS3Location=location, RoleArn=ROLE
    )
    assert sagemaker.describe_pipeline(PipelineName="Demo")[
        "PipelineDefinition"
    ] == chain("A")
    location["ObjectKey"] = "missing"
    code, message = error_of(
        sagemaker.create_pipeline,
        PipelineName="Other",
        PipelineDefinitionS3Location=location,
        RoleArn=ROLE,
    )
    assert (code, "s3://bucket/missing" in message) == ("ValidationException", True)


def test_new_definition_creates_a_new_version(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """An update creates a version only if the definition changes."""
    create(chain("A"))
    assert (
        sagemaker.update_pipeline(PipelineName="Demo", PipelineDescription="x")[
            "PipelineVersionId"
        ]
        == 1
    )
    assert (
        sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("A"))[
            "PipelineVersionId"
        ]
        == 1
    )
    assert (
        sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("B"))[
            "PipelineVersionId"
        ]
        == 2
    )
    versions = sagemaker.list_pipeline_versions(PipelineName="Demo")[
        "PipelineVersionSummaries"
    ]
    assert [version["PipelineVersionId"] for version in versions] == [2, 1]
    old = sagemaker.describe_pipeline(PipelineName="Demo", PipelineVersionId=1)
    assert old["PipelineDefinition"] == chain("A")
    assert sagemaker.describe_pipeline(PipelineName="Demo")[
        "PipelineDefinition"
    ] == chain("B")
    assert (
        error_of(sagemaker.describe_pipeline, PipelineName="Demo", PipelineVersionId=3)[
            0
        ]
        == "ResourceNotFound"
    )


@pytest.mark.skipif(
    not HAS_ALIASES, reason="this botocore does not support version aliases"
)
def test_version_aliases(create: Callable[..., str], sagemaker: Any) -> None:
    """
    An alias selects a version when a pipeline is described or started and when
    executions are listed.
    """
    create(chain("A"), PipelineVersionAliases=["prod"])
    sagemaker.update_pipeline(
        PipelineName="Demo",
        PipelineDefinition=chain("B"),
        PipelineVersionAliases=["next"],
    )
    described = sagemaker.describe_pipeline(
        PipelineName="Demo", PipelineVersionAlias="prod"
    )
    assert (described["PipelineDefinition"], described["PipelineVersionAliases"]) == (
        chain("A"),
        ["prod"],
    )
    arn = sagemaker.start_pipeline_execution(
        PipelineName="Demo", PipelineVersionAlias="prod"
    )
    sagemaker.start_pipeline_execution(PipelineName="Demo")
    listed = sagemaker.list_pipeline_executions(
        PipelineName="Demo", PipelineVersionAlias="prod"
    )
    assert [
        e["PipelineExecutionArn"] for e in listed["PipelineExecutionSummaries"]
    ] == [arn["PipelineExecutionArn"]]
    for alias, text, code in (
        ("prod", chain("C"), "ConflictException"),
        ("123", chain("C"), "ValidationException"),
        ("new", chain("B"), "ValidationException"),
    ):
        request = {"PipelineDefinition": text, "PipelineVersionAliases": [alias]}
        assert (
            error_of(sagemaker.update_pipeline, PipelineName="Demo", **request)[0]
            == code
        )


def test_update_of_a_version(create: Callable[..., str], sagemaker: Any) -> None:
    """
    The name and the description of a version can be changed, and do not concern another
    version.
    """
    create(chain("A"))
    arn = sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("B"))[
        "PipelineArn"
    ]
    names = {
        "PipelineVersionDisplayName": "first",
        "PipelineVersionDescription": "Before the change",
    }

    response = sagemaker.update_pipeline_version(
        PipelineArn=arn, PipelineVersionId=1, **names
    )
    sagemaker.update_pipeline_version(
        PipelineArn=arn, PipelineVersionId=1, PipelineVersionDescription="Old"
    )

    assert (response["PipelineArn"], response["PipelineVersionId"]) == (arn, 1)
    described = sagemaker.describe_pipeline(PipelineName="Demo", PipelineVersionId=1)
    assert {name: described[name] for name in names} == {
        **names,
        "PipelineVersionDescription": "Old",
    }
    assert "PipelineVersionDisplayName" not in sagemaker.describe_pipeline(
        PipelineName="Demo"
    )
    listed = sagemaker.list_pipeline_versions(PipelineName="Demo")[
        "PipelineVersionSummaries"
    ]
    assert [each.get("PipelineVersionDisplayName") for each in listed] == [
        None,
        "first",
    ]
    missing = error_of(
        sagemaker.update_pipeline_version, PipelineArn=arn, PipelineVersionId=3
    )
    assert missing == (
        "ResourceNotFound",
        f"Pipeline '{arn}' has no version with id '3'.",
    )


@pytest.mark.skipif(
    not HAS_ALIASES, reason="this botocore does not support version aliases"
)
def test_update_of_aliases(create: Callable[..., str], sagemaker: Any) -> None:
    """
    Aliases are added and removed; one of another version is a conflict, and changes
    nothing.
    """
    create(chain("A"), PipelineVersionAliases=["prod", "old"])
    arn = sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("B"))[
        "PipelineArn"
    ]

    def change(version: int, **operations: list[str]) -> dict[str, Any]:
        return {
            "PipelineArn": arn,
            "PipelineVersionId": version,
            "PipelineVersionAliasOperations": operations,
        }

    sagemaker.update_pipeline_version(
        **change(1, Add=["prod", "tested"], Remove=["old", "never"])
    )
    described = sagemaker.describe_pipeline(PipelineName="Demo", PipelineVersionId=1)
    assert described["PipelineVersionAliases"] == ["prod", "tested"]
    sagemaker.update_pipeline_version(**change(2, Add=["old"]))
    assert sagemaker.describe_pipeline(PipelineName="Demo")[
        "PipelineVersionAliases"
    ] == ["old"]
    for added, code in (
        (["prod"], "ConflictException"),
        (["12"], "ValidationException"),
        ([f"a{number}" for number in range(10)], "ValidationException"),
    ):
        assert (
            error_of(
                sagemaker.update_pipeline_version, **change(2, Add=added, Remove=[])
            )[0]
            == code
        )
    assert sagemaker.describe_pipeline(PipelineName="Demo")[
        "PipelineVersionAliases"
    ] == ["old"]


def test_pipeline_with_running_executions_is_not_deleted(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    server: EmulatorServer,
) -> None:
    """
    DeletePipeline is rejected while an execution is running, and later removes the
    executions too.
    """
    create(chain("A"))
    arn = start()
    assert (
        error_of(sagemaker.delete_pipeline, PipelineName="Demo")[0]
        == "ConflictException"
    )
    server.control.advance(3600)
    sagemaker.delete_pipeline(PipelineName="Demo")
    assert (
        error_of(sagemaker.describe_pipeline, PipelineName="Demo")[0]
        == "ResourceNotFound"
    )
    assert (
        error_of(sagemaker.describe_pipeline_execution, PipelineExecutionArn=arn)[0]
        == "ResourceNotFound"
    )


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-west-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_regions_are_separate(
    create: Callable[..., str], client_of: ClientOf, region: str, partition: str
) -> None:
    """Each region has its own pipelines, with ARNs in its partition."""
    create(chain("A"))
    other = client_of("sagemaker", region)
    assert other.list_pipelines()["PipelineSummaries"] == []
    arn = other.create_pipeline(
        PipelineName="Demo", PipelineDefinition=chain("A"), RoleArn=ROLE
    )["PipelineArn"]
    assert arn == f"arn:{partition}:sagemaker:{region}:123456789012:pipeline/Demo"
    execution = other.start_pipeline_execution(PipelineName="Demo")[
        "PipelineExecutionArn"
    ]
    assert execution.startswith(f"{arn}/execution/")


def names(response: dict[str, Any]) -> list[str]:
    """Return the pipeline names in a ListPipelines response."""
    return [entry["PipelineName"] for entry in response["PipelineSummaries"]]


@pytest.fixture
def three_pipelines(create: Callable[..., str], server: EmulatorServer) -> None:
    """Three pipelines that were created ten seconds apart."""
    for name in ("b-one", "a-two", "b-three"):
        create(chain("A"), name)
        server.control.advance(10)


@pytest.mark.usefixtures("three_pipelines")
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, ["b-three", "a-two", "b-one"]),
        ({"SortOrder": "Ascending"}, ["b-one", "a-two", "b-three"]),
        ({"SortBy": "Name", "SortOrder": "Ascending"}, ["a-two", "b-one", "b-three"]),
        ({"PipelineNamePrefix": "b"}, ["b-three", "b-one"]),
    ],
)
def test_pipelines_are_sorted_and_filtered(
    sagemaker: Any, request_: dict[str, Any], expected: list[str]
) -> None:
    """
    ListPipelines sorts by creation time (newest first) or by name, and filters by
    prefix.
    """
    assert names(sagemaker.list_pipelines(**request_)) == expected


@pytest.mark.usefixtures("three_pipelines")
def test_pipelines_are_filtered_by_creation_time(sagemaker: Any) -> None:
    """CreatedAfter and CreatedBefore are exclusive bounds."""
    times = {
        e["PipelineName"]: e["CreationTime"]
        for e in sagemaker.list_pipelines()["PipelineSummaries"]
    }
    assert names(sagemaker.list_pipelines(CreatedAfter=times["a-two"])) == ["b-three"]
    assert names(sagemaker.list_pipelines(CreatedBefore=times["a-two"])) == ["b-one"]


@pytest.mark.usefixtures("three_pipelines")
def test_pages_do_not_repeat_or_skip_pipelines(
    sagemaker: Any, create: Callable[..., str]
) -> None:
    """
    A pipeline that is created between two list calls does not change the second page.
    """
    first = sagemaker.list_pipelines(MaxResults=2)
    create(chain("A"), "newest")
    second = sagemaker.list_pipelines(MaxResults=2, NextToken=first["NextToken"])
    assert names(first) + names(second) == ["b-three", "a-two", "b-one"]
    assert "NextToken" not in second


@pytest.mark.usefixtures("three_pipelines")
def test_page_token_belongs_to_its_request(sagemaker: Any) -> None:
    """An invalid token and the token of another request are rejected."""
    token = sagemaker.list_pipelines(MaxResults=1)["NextToken"]
    for request in (
        {"NextToken": "AAAA"},
        {"NextToken": token, "PipelineNamePrefix": "b"},
    ):
        code, message = error_of(sagemaker.list_pipelines, **request)
        assert (code, "pagination token" in message) == ("ValidationException", True)


def test_page_has_at_most_a_hundred_entries(
    sagemaker: Any, create: Callable[..., str]
) -> None:
    """
    Without MaxResults a page has a hundred entries, and botocore's paginator gets the
    other pages.
    """
    for index in range(101):
        create(chain("A"), f"p{index}")
    assert len(names(sagemaker.list_pipelines())) == 100
    pages = sagemaker.get_paginator("list_pipelines").paginate()
    assert len({name for page in pages for name in names(page)}) == 101


def test_tags(create: Callable[..., str], sagemaker: Any) -> None:
    """
    The emulator adds, replaces, removes and lists tags of pipelines; moto does so for
    other resources.
    """
    create(
        chain("A"), Tags=[{"Key": "team", "Value": "a"}, {"Key": "cost", "Value": "1"}]
    )
    arn = sagemaker.describe_pipeline(PipelineName="Demo")["PipelineArn"]
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}])
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["cost", "none"])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "b"}
    ]
    group = sagemaker.create_model_package_group(
        ModelPackageGroupName="g", Tags=[{"Key": "x", "Value": "y"}]
    )
    assert sagemaker.list_tags(ResourceArn=group["ModelPackageGroupArn"])["Tags"] == [
        {"Key": "x", "Value": "y"}
    ]


@pytest.mark.parametrize(
    ("keys", "named"),
    [(["aws:x"], "aws:x"), (["AWS:x"], "AWS:x"), (["x", "x"], "more than once")],
)
def test_tags_that_aws_refuses(
    create: Callable[..., str], sagemaker: Any, keys: list[str], named: str
) -> None:
    """Neither a new pipeline nor one that exists gets them."""
    tags = [{"Key": key, "Value": "1"} for key in keys]
    create(chain("A"), Tags=[{"Key": "X", "Value": "aws:1"}])
    arn = sagemaker.describe_pipeline(PipelineName="Demo")["PipelineArn"]
    request = {"PipelineDefinition": chain("A"), "RoleArn": ROLE, "Tags": tags}
    for code, message in (
        error_of(sagemaker.create_pipeline, PipelineName="New", **request),
        error_of(sagemaker.add_tags, ResourceArn=arn, Tags=tags),
    ):
        assert (code, named in message) == ("ValidationException", True)
    assert len(sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 1
    assert names(sagemaker.list_pipelines()) == ["Demo"]


def test_pipeline_has_at_most_fifty_tags(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """A new value of a tag is no further tag."""
    tags = [{"Key": f"k{number}", "Value": "1"} for number in range(51)]
    create(chain("A"), Tags=tags[:50])
    arn = sagemaker.describe_pipeline(PipelineName="Demo")["PipelineArn"]
    code, _ = error_of(sagemaker.add_tags, ResourceArn=arn, Tags=tags[50:])
    assert code == "ResourceLimitExceeded"
    sagemaker.add_tags(ResourceArn=arn, Tags=tags[:1])


def test_quota_of_pipelines(
    create: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An update needs no room, and a deletion makes some."""
    assert Limits().max_pipelines == 500
    monkeypatch.setattr(server.sagemaker, "limits", Limits(max_pipelines=1))
    create(chain("A"))
    request = {"PipelineDefinition": chain("B"), "RoleArn": ROLE}
    code, message = error_of(sagemaker.create_pipeline, PipelineName="New", **request)
    assert code == "ResourceLimitExceeded"
    assert "is 1 Pipelines, with current utilization of 1 Pipelines" in message
    sagemaker.update_pipeline(PipelineName="Demo", **request)
    sagemaker.delete_pipeline(PipelineName="Demo")
    create(chain("A"), "New")


@pytest.mark.skipif(
    not HAS_ALIASES, reason="this botocore does not support version aliases"
)
def test_unknown_operation_on_aliases(
    create: Callable[..., str], server: EmulatorServer
) -> None:
    """It is not ignored as other unknown members, and changes nothing."""
    create(chain("A"))
    arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/Demo"
    request = {"PipelineArn": arn, "PipelineVersionId": 1}
    operations = {"Add": ["a"], "Replace": ["b"]}
    with pytest.raises(ApiError, match="Unknown operation 'Replace'"):
        server.sagemaker.call(
            "UpdatePipelineVersion",
            "us-east-1",
            {**request, "PipelineVersionAliasOperations": operations},
        )
    described, _ = server.sagemaker.call(
        "DescribePipeline", "us-east-1", {"PipelineName": "Demo"}
    )
    assert "PipelineVersionAliases" not in described


def test_operation_that_is_not_emulated_is_an_error(sagemaker: Any) -> None:
    """
    What neither the emulator nor moto has is an error, and not a success without
    effect.
    """
    assert error_of(sagemaker.list_hubs)[0] == "UnknownOperationException"


def test_maximum_size_of_a_definition(sagemaker: Any, server: EmulatorServer) -> None:
    """
    A definition of 1 MiB is stored, a larger one is rejected, and errors and the call
    log truncate it.
    """
    text = chain("A").ljust(1024 * 1024)
    request = {"PipelineName": "Demo", "RoleArn": ROLE}
    sagemaker.create_pipeline(PipelineDefinition=text, **request)
    assert (
        sagemaker.describe_pipeline(PipelineName="Demo")["PipelineDefinition"] == text
    )
    _, message = error_of(
        sagemaker.update_pipeline, PipelineDefinition=text + " ", **request
    )
    assert "length less than or equal to 1048576" in message
    assert len(message) < 5000
    assert (
        len(server.control.calls("CreatePipeline")[0]["request"]["PipelineDefinition"])
        < 5000
    )


def test_recreated_pipeline_has_new_execution_arns(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    server: EmulatorServer,
) -> None:
    """
    The ARN of an execution is never used again, even after its pipeline was deleted.
    """
    create(chain("A"))
    first = start()
    server.control.advance(3600)
    sagemaker.delete_pipeline(PipelineName="Demo")
    create(chain("A"))
    assert start() != first


def test_requests_are_processed_one_at_a_time() -> None:
    """Two concurrent requests with the same token are performed once."""
    reads = []

    def read_slowly(key: str) -> bytes:
        reads.append(key)
        time.sleep(0.2)
        return chain("A").encode()

    sagemaker = SageMaker(VirtualClock(), Services(read_slowly), "seed")
    request = {
        "PipelineName": "Demo",
        "PipelineDefinitionS3Location": {"Bucket": "bucket", "ObjectKey": "key"},
        "RoleArn": ROLE,
        "ClientRequestToken": "t" * 32,
    }
    with ThreadPoolExecutor(2) as pool:
        responses = list(
            pool.map(
                lambda _: sagemaker.call("CreatePipeline", "us-east-1", request),
                range(2),
            )
        )
    assert reads == ["key"]
    assert responses[0] == responses[1]
