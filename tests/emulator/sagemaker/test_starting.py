"""What StartPipelineExecution accepts, refuses and does once, through boto3."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from tests.emulator.builders import ROLE, chain, definition, step
from tests.emulator.sagemaker.test_pipelines import HAS_ALIASES, refusal

Steps = Callable[[str], dict[str, dict[str, Any]]]
TOKEN = "t" * 32


PARAMETERS = (
    {"Name": "Text", "Type": "String"},
    {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
    {"Name": "Rate", "Type": "Float", "DefaultValue": 0.5},
    {"Name": "Flag", "Type": "Boolean", "DefaultValue": True},
    {"Name": "Tier", "Type": "String", "DefaultValue": "gold", "EnumValues": ["gold", "silver"]},
)


@pytest.fixture
def parameterised(create: Callable[..., str]) -> str:
    """A pipeline with one parameter of each type; only Text has no default."""
    return create(definition(step("A"), parameters=PARAMETERS))


@pytest.mark.usefixtures("parameterised")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "Parameter 'Text' is undefined."),
        ({"Text": "x", "Nope": "1"}, "Unknown parameter 'Nope'"),
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
        ({"Text": ""}, "Parameter 'Text': [string \"\" is too short (length: 0, required minimum: 1)]"),
        (
            {"Text": "x", "Tier": "tin"},
            "Value 'tin' of parameter 'Tier' is not one of its enum values: [gold, silver]",
        ),
    ],
)
def test_wrong_parameters_are_refused(sagemaker: Any, values: dict[str, str], message: str) -> None:
    """Each wrong value is a ValidationException that names the parameter, and nothing is started."""
    given = [{"Name": name, "Value": value} for name, value in values.items()]
    found = refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", PipelineParameters=given)
    assert found == ("ValidationException", message)
    assert sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"] == []


@pytest.mark.usefixtures("parameterised")
@pytest.mark.parametrize(
    "values",
    [{"Count": "-3", "Rate": "1e-3"}, {"Rate": "2", "Flag": "False"}, {"Flag": "true", "Tier": "silver"}],
)
def test_parameters_are_listed_with_defaults(
    sagemaker: Any, start: Callable[..., str], values: dict[str, str]
) -> None:
    """ListPipelineParametersForExecution shows what was sent, as it was sent, and the defaults of the rest."""
    arn = start("Demo", Text="x", **values)
    pages = sagemaker.get_paginator("list_pipeline_parameters_for_execution").paginate(
        PipelineExecutionArn=arn, PaginationConfig={"PageSize": 2}
    )
    listed = {entry["Name"]: entry["Value"] for page in pages for entry in page["PipelineParameters"]}
    defaults = {"Count": "1", "Rate": "0.5", "Flag": "true", "Tier": "gold"}
    assert listed == {"Text": "x", **defaults, **values}


@pytest.mark.usefixtures("parameterised")
def test_a_parameter_is_given_once(sagemaker: Any) -> None:
    """The same name twice is refused."""
    given = [{"Name": "Text", "Value": "x"}] * 2
    code, _ = refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", PipelineParameters=given)
    assert code == "ValidationException"


@pytest.mark.skipif(not HAS_ALIASES, reason="this botocore knows no RoleArn at start")
def test_a_role_at_start_is_refused(create: Callable[..., str], sagemaker: Any) -> None:
    """A pipeline one created oneself runs with its own role."""
    create(chain("A"))
    code, message = refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", RoleArn=ROLE)
    assert (code, "RoleArn can't be specified" in message) == ("ValidationException", True)


def test_the_same_start_token_starts_once(
    create: Callable[..., str], sagemaker: Any, server: EmulatorServer
) -> None:
    """The same request with the same token returns the same execution, even much later."""
    create(chain("A"))
    request = {"PipelineName": "Demo", "ClientRequestToken": TOKEN, "PipelineExecutionDisplayName": "x"}
    first = sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    server.control.advance(24 * 3600)
    assert sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"] == first
    assert len(sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]) == 1
    request["PipelineExecutionDisplayName"] = "y"
    assert refusal(sagemaker.start_pipeline_execution, **request)[0] == "ConflictException"
    request["ClientRequestToken"] = "u" * 32
    assert sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"] != first


def test_a_refused_start_leaves_its_token_free(create: Callable[..., str], sagemaker: Any) -> None:
    """A token that came with a refused request can be used again."""
    create(chain("A"))
    wrong = {"PipelineParameters": [{"Name": "X", "Value": "1"}]}
    assert (
        refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", ClientRequestToken=TOKEN, **wrong)[0]
        == "ValidationException"
    )
    assert sagemaker.start_pipeline_execution(PipelineName="Demo", ClientRequestToken=TOKEN)


def test_create_stop_and_retry_are_idempotent(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """Repeating a request with its token is answered as the first time and does nothing."""
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
        assert sagemaker.retry_pipeline_execution(**retry)["PipelineExecutionArn"] == arn
    assert status_of(arn) == "Executing"


def test_an_execution_keeps_its_version(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """An update does not touch running executions, and an old version can be started."""
    create(chain("A"))
    running = start()
    sagemaker.update_pipeline(PipelineName="Demo", PipelineDefinition=chain("B"))
    old = sagemaker.start_pipeline_execution(PipelineName="Demo", PipelineVersionId=1)["PipelineExecutionArn"]
    new = start()
    server.control.advance(60)
    assert [list(steps_of(arn)) for arn in (running, old, new)] == [["A"], ["A"], ["B"]]
    text = sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=running)
    assert text["PipelineDefinition"] == chain("A")
    versions = sagemaker.list_pipeline_versions(PipelineName="Demo", SortOrder="Ascending")
    assert [v["LastExecutionPipelineExecutionArn"] for v in versions["PipelineVersionSummaries"]] == [
        old,
        new,
    ]


def test_a_selective_execution_reuses_what_is_not_selected(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """Only selected steps run; those before them are taken from the source, those after them are left out."""
    create(chain("A", "B", "C"))
    source = start()
    server.control.advance(3600)
    config = {"SelectedSteps": [{"StepName": "B"}], "SourcePipelineExecutionArn": source}
    arn = sagemaker.start_pipeline_execution(PipelineName="Demo", SelectiveExecutionConfig=config)
    arn = arn["PipelineExecutionArn"]
    server.control.advance(3600)
    steps = steps_of(arn)
    assert list(steps) == ["A", "B"]
    assert steps["A"]["SelectiveExecutionResult"] == {"SourcePipelineExecutionArn": source}
    assert "SelectiveExecutionResult" not in steps["B"]
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["SelectiveExecutionConfig"] == config
    assert described["PipelineExecutionStatus"] == "Succeeded"


@pytest.mark.parametrize(
    ("selected", "with_source", "reason"),
    [
        (["X"], False, "not in the pipeline: ['X']"),
        (["B"], False, "SourcePipelineExecutionArn is required"),
        (["A", "C"], False, "'B' lies between two selected steps"),
        (["B"], True, "its status is 'Executing'"),
    ],
)
def test_a_wrong_selection_is_refused(
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
    selected: list[str],
    with_source: bool,
    reason: str,
) -> None:
    """A selection needs known, connected steps and a finished source for what comes before them."""
    create(chain("A", "B", "C"))
    config: dict[str, Any] = {"SelectedSteps": [{"StepName": name} for name in selected]}
    if with_source:
        config["SourcePipelineExecutionArn"] = start()
    code, message = refusal(
        sagemaker.start_pipeline_execution, PipelineName="Demo", SelectiveExecutionConfig=config
    )
    assert (code, reason in message) == ("ValidationException", True)


def test_a_source_must_have_what_is_reused(
    create: Callable[..., str], start: Callable[..., str], server: EmulatorServer, sagemaker: Any
) -> None:
    """Results are only taken from steps that succeeded in an execution of the same pipeline."""
    create(chain("A", "B"))
    create(chain("A", "B"), "Other")
    other = start("Other")
    server.control.put_scenario({"steps": {"A": {"fail": {}}}})
    failed = start()
    server.control.advance(3600)
    for source, reason in ((other, "is not one of pipeline"), (failed, "its step 'A' has not succeeded")):
        config = {"SelectedSteps": [{"StepName": "B"}], "SourcePipelineExecutionArn": source}
        _, message = refusal(
            sagemaker.start_pipeline_execution, PipelineName="Demo", SelectiveExecutionConfig=config
        )
        assert reason in message


def test_many_starts_at_once_with_one_token_start_once(create: Callable[..., str], sagemaker: Any) -> None:
    """Concurrent requests with the same token all get the same execution."""
    create(chain("A"))
    request = {"PipelineName": "Demo", "ClientRequestToken": TOKEN}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sagemaker.start_pipeline_execution(**request), range(32)))
    assert len({answer["PipelineExecutionArn"] for answer in answers}) == 1
    assert len(sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]) == 1
