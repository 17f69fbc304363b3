"""Tests of Search for pipelines and executions, through boto3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.builders import chain
from tests.sagemaker.test_pipelines import error_of

HOUR = 3600
LEVEL = {"Name": "Level", "Type": "Integer", "DefaultValue": 1}
MODE = {"Name": "Mode", "Type": "String", "DefaultValue": "full"}
LIMIT = {"MaxParallelExecutionSteps": 4}
Found = Callable[..., list[str]]


@pytest.fixture
def made(
    sagemaker: Any, start: Callable[..., str], server: EmulatorServer
) -> dict[str, datetime]:
    """
    Three pipelines, made an hour apart, and executions of the last one: succeeded,
    failed and running.

    Return the times at which the pipelines were made.
    """
    times = {}
    for name, text, more in (
        ("churn", chain("A"), {"Tags": [{"Key": "team", "Value": "risk"}]}),
        (
            "churn-2",
            chain("A"),
            {"PipelineDescription": "Nightly", "ParallelismConfiguration": LIMIT},
        ),
        ("Fraud", definition(step("A", "Model"), parameters=(LEVEL, MODE)), {}),
    ):
        sagemaker.create_pipeline(
            PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, **more
        )
        times[name] = datetime.fromtimestamp(server.clock.now(), UTC)
        server.control.advance(HOUR)
    start("Fraud", Level="3")
    server.control.advance(60)
    server.control.put_scenario(
        {"steps": {"A": {"fail": {"reason": "No data"}}}}, "Fraud"
    )
    start("Fraud")
    server.control.advance(60)
    server.control.put_scenario({"steps": {"A": {"duration": None}}}, "Fraud")
    start("Fraud", Level="7")
    return times


@pytest.fixture
def pipelines(made: dict[str, datetime], sagemaker: Any) -> Found:
    """Search for pipelines, and return their names."""

    def find(*filters: dict[str, Any], **more: Any) -> list[str]:
        expression = {"SearchExpression": {"Filters": filters}} if filters else {}
        response = sagemaker.search(Resource="Pipeline", **{**expression, **more})
        return [result["Pipeline"]["PipelineName"] for result in response["Results"]]

    return find


@pytest.fixture
def statuses(made: dict[str, datetime], sagemaker: Any) -> Found:
    """Search for executions, and return their statuses."""

    def find(*filters: dict[str, Any], **more: Any) -> list[str]:
        expression = {"SearchExpression": {"Filters": filters}} if filters else {}
        response = sagemaker.search(
            Resource="PipelineExecution", **{**expression, **more}
        )
        found = [result["PipelineExecution"] for result in response["Results"]]
        return [execution["PipelineExecutionStatus"] for execution in found]

    return find


@pytest.fixture
def _tokyo() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def where(
    name: str, operator: str | None = None, value: str | None = None
) -> dict[str, str]:
    """Return a filter."""
    members = {"Name": name, "Operator": operator, "Value": value}
    return {member: each for member, each in members.items() if each is not None}


@pytest.mark.parametrize(
    ("filter_", "names"),
    [
        (where("PipelineName", None, "churn"), ["churn"]),
        (where("PipelineName", "Equals", "CHURN"), []),
        (where("PipelineName", "NotEquals", "churn"), ["Fraud", "churn-2"]),
        (where("PipelineName", "Contains", "churn"), ["churn-2", "churn"]),
        (where("PipelineName", "In", "Fraud, churn"), ["Fraud", "churn"]),
        (where("PipelineDescription", "Exists"), ["churn-2"]),
        (where("PipelineDescription", "NotExists"), ["Fraud", "churn"]),
        (where("PipelineDescription", "NotEquals", "Nightly"), ["Fraud", "churn"]),
        (where("Tags.team", "Equals", "risk"), ["churn"]),
        (where("Tags.team", "NotExists"), ["Fraud", "churn-2"]),
        (where("Tags.Key", "Exists"), []),
        (
            where(
                "ParallelismConfiguration.MaxParallelExecutionSteps", "GreaterThan", "3"
            ),
            ["churn-2"],
        ),
        (
            where(
                "ParallelismConfiguration.MaxParallelExecutionSteps", "LessThan", "4"
            ),
            [],
        ),
        (
            where(
                "ParallelismConfiguration.MaxParallelExecutionSteps", "Equals", "4.0"
            ),
            ["churn-2"],
        ),
        (
            where(
                "ParallelismConfiguration.MaxParallelExecutionSteps",
                "LessThanOrEqualTo",
                "4",
            ),
            ["churn-2"],
        ),
        (where("LastRunTime", "Exists"), ["Fraud"]),
        (where("RoleArn", "Equals", ROLE), ["Fraud", "churn-2", "churn"]),
    ],
    ids=str,
)
def test_filter(pipelines: Found, filter_: dict[str, str], names: list[str]) -> None:
    """
    Each operator compares as its documentation says; the last modified pipeline is the
    first.
    """
    assert pipelines(filter_) == names


@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
@pytest.mark.usefixtures("_tokyo")
def test_times(pipelines: Found, made: dict[str, datetime], zone: str) -> None:
    """A time is in UTC unless it names another zone, wherever the emulator runs."""
    text = made["churn-2"].replace(tzinfo=None).isoformat() + zone
    assert pipelines(where("CreationTime", "GreaterThan", text)) == ["Fraud"]
    assert pipelines(where("CreationTime", "GreaterThanOrEqualTo", text)) == [
        "Fraud",
        "churn-2",
    ]
    assert pipelines(where("CreationTime", "LessThan", text)) == ["churn"]
    assert pipelines(where("CreationTime", "Equals", text)) == ["churn-2"]


def test_executions(statuses: Found, sagemaker: Any) -> None:
    """
    Executions of all pipelines are found in their present state, by their status,
    pipeline and parameters.
    """
    arn = sagemaker.describe_pipeline(PipelineName="Fraud")["PipelineArn"]
    assert statuses() == ["Executing", "Failed", "Succeeded"]
    assert statuses(where("PipelineExecutionStatus", "In", "Failed,Succeeded")) == [
        "Failed",
        "Succeeded",
    ]
    assert statuses(where("FailureReason", "Contains", "multiple steps")) == ["Failed"]
    assert statuses(where("PipelineArn", "Equals", f"{arn}x")) == []
    response = sagemaker.search(
        Resource="PipelineExecution",
        SearchExpression={"Filters": [where("PipelineArn", "Equals", arn)]},
        SortBy="CreationTime",
        SortOrder="Ascending",
    )
    first = response["Results"][0]["PipelineExecution"]
    assert first["PipelineParameters"] == [
        {"Name": "Level", "Value": "3"},
        {"Name": "Mode", "Value": "full"},
    ]
    described = sagemaker.describe_pipeline_execution(
        PipelineExecutionArn=first["PipelineExecutionArn"]
    )
    assert {name: described[name] for name in first if name in described} == {
        name: value for name, value in first.items() if name in described
    }
    assert {
        "PipelineExecutionDisplayName",
        "LastModifiedTime",
        "PipelineVersionId",
    } <= set(first)


def test_nested_filters(statuses: Found) -> None:
    """One item of the list must satisfy all filters."""
    nested = {
        "NestedPropertyName": "PipelineParameters",
        "Filters": [
            where("PipelineParameters.Name", "Equals", "Level"),
            where("PipelineParameters.Value", "In", "3,1"),
        ],
    }
    expression = {"NestedFilters": [nested]}
    assert statuses(SearchExpression=expression) == ["Failed", "Succeeded"]
    nested["Filters"][0]["Value"] = "Mode"  # type: ignore[index]
    assert statuses(SearchExpression=expression) == []


def test_subexpressions(pipelines: Found) -> None:
    """And is the default, at each depth."""
    risk, fraud = (
        where("Tags.team", "Equals", "risk"),
        where("PipelineName", "Equals", "Fraud"),
    )
    everything = where("RoleArn", "Exists")
    either = {"Filters": [risk, fraud], "Operator": "Or"}
    assert pipelines(SearchExpression=either) == ["Fraud", "churn"]
    assert pipelines(SearchExpression={**either, "Operator": "And"}) == []
    assert pipelines(risk, fraud) == []
    both = {"SubExpressions": [either, {"Filters": [risk, everything]}]}
    assert pipelines(SearchExpression=both) == ["churn"]
    assert pipelines(
        SearchExpression={**both, "Filters": [fraud], "Operator": "Or"}
    ) == ["Fraud", "churn"]


def test_order_and_pages(pipelines: Found, sagemaker: Any) -> None:
    """
    Results are sorted by any property, those without it last, and pages do not repeat
    or skip one.
    """
    assert pipelines(SortBy="PipelineName", SortOrder="Ascending") == [
        "Fraud",
        "churn",
        "churn-2",
    ]
    assert pipelines(SortBy="PipelineDescription")[0] == "churn-2"
    assert pipelines(CrossAccountFilterOption="CrossAccount") == []
    pages = sagemaker.get_paginator("search").paginate(
        Resource="Pipeline", PaginationConfig={"PageSize": 2}
    )
    found = [
        [result["Pipeline"]["PipelineName"] for result in page["Results"]]
        for page in pages
    ]
    assert found == [["Fraud", "churn-2"], ["churn"]]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"Filters": [where("Name", "Equals", "x")]}, "Unknown property name: Name"),
        (
            {"Filters": [where("CreatedBy.Nobody", "Exists")]},
            "Unknown property name: CreatedBy.Nobody",
        ),
        (
            {"Filters": [where("PipelineName.X", "Exists")]},
            "Unknown property name: PipelineName.X",
        ),
        (
            {"Filters": [where("PipelineName", "GreaterThan", "x")]},
            "The operator GreaterThan is not supported for the property PipelineName.",
        ),
        (
            {"Filters": [where("CreationTime", "Contains", "2026")]},
            "The operator Contains is not supported for the property CreationTime.",
        ),
        (
            {"Filters": [where("CreatedBy", "Equals", "x")]},
            "The operator Equals is not supported for the property CreatedBy.",
        ),
        (
            {"Filters": [where("CreationTime", "LessThan", "yesterday")]},
            "Value 'yesterday' is not a timestamp, as CreationTime is.",
        ),
        (
            {"Filters": [where("PipelineName")]},
            "A filter with the operator Equals needs a value.",
        ),
        (
            {},
            "A search expression needs at least one filter, nested filter or subexpression.",
        ),
        (
            {
                "Filters": [
                    where("PipelineName", "Contains", "a"),
                    where("RoleArn", "Contains", "a"),
                ]
            },
            "'CONTAINS' operator usage limit of 1 exceeded.",
        ),
        (
            {"SubExpressions": [{"Filters": [where("RoleArn", "Exists")] * 20}] * 3},
            "A search expression can have at most 50 filters and subexpressions.",
        ),
        (
            {
                "NestedFilters": [
                    {
                        "NestedPropertyName": "RoleArn",
                        "Filters": [where("RoleArn.X", "Exists")],
                    }
                ]
            },
            "RoleArn is not a list of objects, so it cannot be a nested property.",
        ),
        (
            {
                "NestedFilters": [
                    {"NestedPropertyName": "Tags", "Filters": [where("Key", "Exists")]}
                ]
            },
            "Unknown property name: Key",
        ),
    ],
)
def test_refused_expressions(
    sagemaker: Any, expression: dict[str, Any], message: str
) -> None:
    """
    An expression that AWS does not take is refused, and not answered with too much or
    too little.
    """
    error = error_of(sagemaker.search, Resource="Pipeline", SearchExpression=expression)
    assert error == ("ValidationException", message)


def test_what_is_not_emulated(sagemaker: Any) -> None:
    """moto searches other resources; what the emulator does not evaluate is refused."""
    assert sagemaker.search(Resource="TrainingJob")["Results"] == []
    conditions = [{"Key": "a", "Value": "b"}]
    for request, message in (
        (
            {"VisibilityConditions": conditions},
            "The emulator has no VisibilityConditions in Search.",
        ),
        ({"SortBy": "CreatedBy"}, "The results cannot be sorted by CreatedBy."),
        ({"SortBy": "Nothing"}, "Unknown property name: Nothing"),
    ):
        assert error_of(sagemaker.search, Resource="Pipeline", **request) == (
            "ValidationException",
            message,
        )
