"""
Tests of StartPipelineExecution: parameters, idempotency, versions and selective
execution, through boto3.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.builders import chain
from tests.sagemaker.test_pipelines import HAS_ALIASES, error_of

Steps = Callable[[str], dict[str, dict[str, Any]]]
TOKEN = "t" * 32


PARAMETERS = (
    {"Name": "Text", "Type": "String"},
    {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
    {"Name": "Rate", "Type": "Float", "DefaultValue": 0.5},
    {"Name": "Flag", "Type": "Boolean", "DefaultValue": True},
    {
        "Name": "Tier",
        "Type": "String",
        "DefaultValue": "gold",
        "EnumValues": ["gold", "silver"],
    },
)


@pytest.fixture
def parameterised(create: Callable[..., str]) -> str:
    """A pipeline with a parameter of each type. Only Text has no default."""
    return create(definition(step("A"), parameters=PARAMETERS))


@pytest.mark.usefixtures("parameterised")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Parameter 'Text' is undefined."),
        ({"Text": "x", "Nope": "1"}, "Unknown parameter 'Nope'"),
        # A start allows longer names than a definition.
        ({"Text": "x", "N" * 256: "1"}, f"Unknown parameter '{'N' * 256}'"),
        (
            {"Text": "x", "Count": "1.5"},
            "Unexpected type for parameter 'Count'. Expected Integer but found Float.",
        ),
        (
            {"Text": "x", "Count": "a"},
            "Unexpected type for parameter 'Count'. Expected Integer but found String.",
        ),
        (
            {"Text": "x", "Count": "True"},
            "Unexpected type for parameter 'Count'. Expected Integer but found Boolean.",
        ),
        (
            {"Text": "x", "Rate": "nan"},
            "Unexpected type for parameter 'Rate'. Expected Float but found String.",
        ),
        (
            {"Text": "x", "Rate": "1e999"},
            "Unexpected type for parameter 'Rate'. Expected Float but found String.",
        ),
        (
            {"Text": "x", "Flag": "1"},
            "Unexpected type for parameter 'Flag'. Expected Boolean but found Integer.",
        ),
        (
            {"Text": ""},
            # https://github.com/aws/sagemaker-python-sdk/issues/4016
            '[string "" is too short (length: 0, required minimum: 1)]',
        ),
        (
            {"Text": "x", "Tier": "tin"},
            "Value 'tin' of parameter 'Tier' is not one of its enum values: [gold, silver]",
        ),
    ],
)
def test_invalid_parameters_are_rejected(
    sagemaker: Any, values: dict[str, str], message: str
) -> None:
    """
    An invalid value is a ValidationException that names the parameter, and no execution
    starts.
    """
    request_parameters = [
        {"Name": name, "Value": value} for name, value in values.items()
    ]
    error = error_of(
        sagemaker.start_pipeline_execution,
        PipelineName="Demo",
        PipelineParameters=request_parameters,
    )
    assert error == ("ValidationException", message)
    assert (
        sagemaker.list_pipeline_executions(PipelineName="Demo")[
            "PipelineExecutionSummaries"
        ]
        == []
    )


@pytest.mark.usefixtures("parameterised")
@pytest.mark.parametrize(
    "values",
    [
        {"Count": "-3", "Rate": "1e-3"},
        {"Rate": "2", "Flag": "False"},
        {"Flag": "true", "Tier": "silver"},
    ],
)
def test_parameters_are_listed_with_defaults(
    sagemaker: Any, start: Callable[..., str], values: dict[str, str]
) -> None:
    """
    ListPipelineParametersForExecution returns the values as they were sent, and the
    defaults of the others.
    """
    arn = start("Demo", Text="x", **values)
    pages = sagemaker.get_paginator("list_pipeline_parameters_for_execution").paginate(
        PipelineExecutionArn=arn, PaginationConfig={"PageSize": 2}
    )
    listed = {
        entry["Name"]: entry["Value"]
        for page in pages
        for entry in page["PipelineParameters"]
    }
    defaults = {"Count": "1", "Rate": "0.5", "Flag": "true", "Tier": "gold"}
    assert listed == {"Text": "x", **defaults, **values}


@pytest.mark.usefixtures("parameterised")
def test_repeated_parameter_is_rejected(sagemaker: Any) -> None:
    """A parameter that is specified twice is rejected."""
    request_parameters = [{"Name": "Text", "Value": "x"}] * 2
    code, _ = error_of(
        sagemaker.start_pipeline_execution,
        PipelineName="Demo",
        PipelineParameters=request_parameters,
    )
    assert code == "ValidationException"


@pytest.mark.skipif(
    not HAS_ALIASES,
    reason="this botocore does not support RoleArn in StartPipelineExecution",
)
def test_role_in_a_start_request_is_rejected(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """A pipeline that the customer created uses its own role."""
    create(chain("A"))
    code, message = error_of(
        sagemaker.start_pipeline_execution, PipelineName="Demo", RoleArn=ROLE
    )
    assert (code, "RoleArn can't be specified" in message) == (
        "ValidationException",
        True,
    )


def test_same_token_starts_one_execution(
    create: Callable[..., str], sagemaker: Any, server: EmulatorServer
) -> None:
    """
    The same request with the same token returns the same execution, even much later.
    """
    create(chain("A"))
    request = {
        "PipelineName": "Demo",
        "ClientRequestToken": TOKEN,
        "PipelineExecutionDisplayName": "x",
    }
    first = sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    server.control.advance(24 * 3600)
    assert (
        sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"] == first
    )
    assert (
        len(
            sagemaker.list_pipeline_executions(PipelineName="Demo")[
                "PipelineExecutionSummaries"
            ]
        )
        == 1
    )
    request["PipelineExecutionDisplayName"] = "y"
    assert (
        error_of(sagemaker.start_pipeline_execution, **request)[0]
        == "ConflictException"
    )
    request["ClientRequestToken"] = "u" * 32
    assert (
        sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"] != first
    )


def test_token_of_a_rejected_start_can_be_used_again(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """The token of a rejected request can be used for another request."""
    create(chain("A"))
    invalid_request = {"PipelineParameters": [{"Name": "X", "Value": "1"}]}
    assert (
        error_of(
            sagemaker.start_pipeline_execution,
            PipelineName="Demo",
            ClientRequestToken=TOKEN,
            **invalid_request,
        )[0]
        == "ValidationException"
    )
    assert sagemaker.start_pipeline_execution(
        PipelineName="Demo", ClientRequestToken=TOKEN
    )


def test_create_stop_and_retry_are_idempotent(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A repeated request with the same token returns the first response and has no effect.
    """
    create(chain("A"), ClientRequestToken=TOKEN)
    create(chain("A"), ClientRequestToken=TOKEN)
    arn = start()
    stop = {"PipelineExecutionArn": arn, "ClientRequestToken": "stop".ljust(32, "-")}
    for _ in range(2):
        assert sagemaker.stop_pipeline_execution(**stop)["PipelineExecutionArn"] == arn
    server.control.advance(60)
    assert sagemaker.stop_pipeline_execution(**stop)["PipelineExecutionArn"] == arn
    assert status_of(arn) == "Stopped"
    retry = {"PipelineExecutionArn": arn, "ClientRequestToken": "retry".ljust(32, "-")}
    for _ in range(2):
        assert (
            sagemaker.retry_pipeline_execution(**retry)["PipelineExecutionArn"] == arn
        )
    assert status_of(arn) == "Executing"


def test_execution_keeps_its_version(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    An update does not change running executions, and an earlier version can be started.
    """
    create(chain("A"))
    running = start()
    sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("B"))
    old = sagemaker.start_pipeline_execution(PipelineName="Demo", PipelineVersionId=1)[
        "PipelineExecutionArn"
    ]
    new = start()
    server.control.advance(60)
    assert [list(steps_of(arn)) for arn in (running, old, new)] == [["A"], ["A"], ["B"]]
    text = sagemaker.describe_pipeline_definition_for_execution(
        PipelineExecutionArn=running
    )
    assert text["PipelineDefinition"] == chain("A")
    versions = sagemaker.list_pipeline_versions(
        PipelineName="Demo", SortOrder="Ascending"
    )
    assert [
        v["LastExecutionPipelineExecutionArn"]
        for v in versions["PipelineVersionSummaries"]
    ] == [
        old,
        new,
    ]


def test_selective_execution_reuses_earlier_steps(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    Only selected steps run: steps before them are reused from the source, and steps
    after them do not run.
    """
    create(chain("A", "B", "C"))
    source = start()
    server.control.advance(3600)
    config = {
        "SelectedSteps": [{"StepName": "B"}],
        "SourcePipelineExecutionArn": source,
    }
    arn = sagemaker.start_pipeline_execution(
        PipelineName="Demo", SelectiveExecutionConfig=config
    )
    arn = arn["PipelineExecutionArn"]
    server.control.advance(3600)
    steps = steps_of(arn)
    assert list(steps) == ["A", "B"]
    assert steps["A"]["SelectiveExecutionResult"] == {
        "SourcePipelineExecutionArn": source
    }
    assert "SelectiveExecutionResult" not in steps["B"]
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["SelectiveExecutionConfig"] == config
    assert described["PipelineExecutionStatus"] == "Succeeded"


@pytest.mark.parametrize(
    ("selected", "with_source", "reason"),
    [
        (["X"], False, "not in the pipeline: ['X']"),
        (
            ["B"],
            False,
            "Invalid SourcePipelineExecutionArn: null. The selected steps [B] have dependencies on [A]",
        ),
        (["A", "C"], False, "'B' is between two selected steps"),
        (["B"], True, "its status is 'Executing'"),
    ],
)
def test_invalid_selection_is_rejected(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    selected: list[str],
    with_source: bool,
    reason: str,
) -> None:
    """
    A selection requires known, connected steps, and a finished source execution for the
    steps before them.
    """
    create(chain("A", "B", "C"))
    config: dict[str, Any] = {
        "SelectedSteps": [{"StepName": name} for name in selected]
    }
    if with_source:
        config["SourcePipelineExecutionArn"] = start()
    code, message = error_of(
        sagemaker.start_pipeline_execution,
        PipelineName="Demo",
        SelectiveExecutionConfig=config,
    )
    assert (code, reason in message) == ("ValidationException", True)


def test_source_execution_must_have_the_reused_results(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    Results are reused only from steps that succeeded in an execution of the same
    pipeline.
    """
    create(chain("A", "B"))
    create(chain("A", "B"), "Other")
    other = start("Other")
    server.control.put_scenario({"steps": {"A": {"fail": {}}}})
    failed = start()
    server.control.advance(3600)
    for source, reason in (
        (other, "does not belong to pipeline"),
        (failed, "its step 'A' has not succeeded"),
    ):
        config = {
            "SelectedSteps": [{"StepName": "B"}],
            "SourcePipelineExecutionArn": source,
        }
        _, message = error_of(
            sagemaker.start_pipeline_execution,
            PipelineName="Demo",
            SelectiveExecutionConfig=config,
        )
        assert reason in message


def test_concurrent_starts_with_one_token_start_one_execution(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """Concurrent requests with the same token all return the same execution."""
    create(chain("A"))
    request = {"PipelineName": "Demo", "ClientRequestToken": TOKEN}
    with ThreadPoolExecutor(8) as pool:
        responses = list(
            pool.map(lambda _: sagemaker.start_pipeline_execution(**request), range(32))
        )
    assert len({response["PipelineExecutionArn"] for response in responses}) == 1
    assert (
        len(
            sagemaker.list_pipeline_executions(PipelineName="Demo")[
                "PipelineExecutionSummaries"
            ]
        )
        == 1
    )
