"""
Starts that run only some steps: what is sent, what is refused before the start, and
what a refusal says.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators import parameter_check as selection
from sagemaker_emulator import EmulatorServer
from tests.tasks import Run, TaskInstance, run_task
from tests.world import LIST, START, World, deny

DESCRIBE = "DescribePipeline"
DATA = {"InputDataUrl": "s3://b/abalone.csv"}
SELECTED = ["AbaloneTrain", "AbaloneEval"]


def start(ti: TaskInstance | None = None, **arguments: Any) -> Run:
    """Run a Start task of pipeline abalone."""
    defaults = {
        "pipeline_name": "abalone",
        "pipeline_parameters": DATA,
        "poll_interval": 60,
    }
    return run_task(
        PolysyncStartPipelineOperator(task_id="train", **{**defaults, **arguments}), ti
    )


def other(emulator: EmulatorServer, **request: Any) -> str:
    """Start an execution without the provider; return its ARN."""
    client: Any = PolysyncSageMakerHook().conn
    parameters = [{"Name": name, "Value": value} for name, value in DATA.items()]
    request = {"PipelineName": "abalone", "PipelineParameters": parameters, **request}
    arn: str = client.start_pipeline_execution(**request)["PipelineExecutionArn"]
    return arn


def started(emulator: EmulatorServer) -> list[dict[str, Any]]:
    """Return the selective executions that were asked for."""
    calls = emulator.control.calls(START)
    return [
        call["request"]["SelectiveExecutionConfig"]
        for call in calls
        if "SelectiveExecutionConfig" in call["request"]
    ]


def test_selected_steps_run_and_the_others_are_reused(
    deferrable: bool, world: World
) -> None:
    """
    One DescribePipeline and one page of executions precede the start; XComs and log say
    what was reused.
    """
    source = other(world.emulator)
    world.control.advance(24 * 3600)
    newer = other(world.emulator)
    world.control.advance(24 * 3600)
    stopped = other(world.emulator)
    client: Any = PolysyncSageMakerHook().conn
    client.stop_pipeline_execution(PipelineExecutionArn=stopped)
    world.control.advance(24 * 3600)
    other(world.emulator)
    before = len(world.control.calls())

    run = start(
        selected_steps=SELECTED, source_execution="latest", deferrable=deferrable
    )

    assert run.error is None
    assert source != newer
    operations = [call["operation"] for call in world.control.calls()[before:]]
    assert operations[:3] == [DESCRIBE, LIST, START]
    assert started(world.emulator) == [
        {
            "SelectedSteps": [{"StepName": name} for name in SELECTED],
            "SourcePipelineExecutionArn": newer,
        }
    ]
    record = run.xcoms["run"]
    assert (record["selected_steps"], record["source_execution"]) == (SELECTED, newer)
    rows = {row["name"]: row for row in run.xcoms["steps"]}
    assert rows["AbaloneProcess"]["reused_from"] == newer
    assert rows["AbaloneProcess"]["state"] == "Success"
    assert [rows[name]["reused_from"] for name in SELECTED] == [None, None]
    assert {name for name, row in rows.items() if row["not_selected"]} == {
        "AbaloneMSECond",
        "AbaloneRegisterModel-RegisterModel",
        "AbaloneCreateModel",
        "AbaloneTransform",
        "AbaloneMSEFail",
    }
    # An earlier execution has paid for what is reused.
    assert record["billable_seconds"] == sum(
        run.xcoms["outputs"][name].get("billable_seconds", 0)
        + run.xcoms["outputs"][name].get("seconds", 0)
        * run.xcoms["outputs"][name].get("instance_count", 0)
        for name in SELECTED
    )


@pytest.mark.parametrize("pages", [1, 3])
def test_latest_is_searched_in_a_limited_number_of_pages(
    pages: int, world: World
) -> None:
    """
    A source on a later page is found; beyond the limit, and without any, the error says
    what to do.
    """
    world.patch.setattr("polysync_airflow.hooks.executions.PAGE_SIZE", 2)
    world.patch.setattr(selection, "MAX_SOURCES", 2 * pages)
    source = other(world.emulator)
    world.control.advance(24 * 3600)
    for _ in range(4):
        other(world.emulator)

    ti = TaskInstance("train")
    run = start(
        ti,
        selected_steps=SELECTED,
        source_execution="latest",
        wait_for_completion=False,
    )

    assert len(world.control.calls(LIST)) == pages
    if pages == 3:
        assert run.xcoms["run"]["source_execution"] == source
        return
    assert isinstance(run.error, ParametersError)
    assert (
        "None of the newest 2 executions has the status Succeeded or Failed. Nothing was started."
        in str(run.error)
    )
    assert (started(world.emulator), ti.store.values) == ([], {})


def test_denied_list_names_the_permission(emulator: EmulatorServer) -> None:
    """ListPipelineExecutions is needed for ``latest`` only."""
    deny(emulator, LIST)

    run = start(selected_steps=SELECTED, source_execution="latest")

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.permanent
    assert "sagemaker:ListPipelineExecutions" in str(run.error)
    assert emulator.control.calls(START) == []


def test_selection_is_compared_with_the_definition(
    deferrable: bool, emulator: EmulatorServer
) -> None:
    """
    A selection that AWS would refuse costs one DescribePipeline and starts nothing.
    """
    run = start(selected_steps=SELECTED, deferrable=deferrable)

    assert isinstance(run.error, ParametersError)
    first, found = str(run.error).splitlines()
    assert (
        first == "The selected_steps do not fit pipeline abalone. Nothing was started."
    )
    missing = "- source_execution: is missing, and the selected steps depend on"
    assert found.startswith(f"{missing} AbaloneProcess; add")
    assert [call["operation"] for call in emulator.control.calls()] == [DESCRIBE]


@pytest.mark.parametrize("case", ["running", "step", "missing"])
def test_refused_source_is_explained(case: str, world: World) -> None:
    """After AWS's refusal, the error says why the execution cannot be the source."""
    world.control.put_scenario(
        {"steps": {"AbaloneProcess": {"fail": {"reason": "No data"}}}}
    )
    source = other(world.emulator)
    if case == "step":
        world.control.advance(24 * 3600)
    if case == "missing":
        source = source[:-3] + "zzz"

    run = start(selected_steps=SELECTED, source_execution=source)

    assert isinstance(run.error, SageMakerApiError)
    do_not_fit = "selected_steps do not fit pipeline abalone.\n- source_execution:"
    expected = {
        "running": (
            f"{do_not_fit} {source} has the status Executing; give an execution that is"
            " Succeeded"
        ),
        "step": (
            f"{do_not_fit} step AbaloneProcess has not succeeded in {source}; select"
            " it, too"
        ),
        "missing": (
            f"\nsource_execution: {source} does not exist; give another execution, or"
            " 'latest'"
        ),
    }
    assert expected[case] in str(run.error)
    assert not world.control.calls("ListPipelines")
    assert "run" not in run.xcoms


def test_mlflow_experiment_is_sent_and_its_app_is_looked_up_once(
    deferrable: bool, world: World
) -> None:
    """The experiment is sent; at the end, one call asks AWS for the ARN of its app."""
    run = start(mlflow_experiment_name="nightly churn", deferrable=deferrable)

    (call,) = world.control.calls(START)
    assert call["request"]["MlflowExperimentName"] == "nightly churn"
    record = run.xcoms["run"]
    assert record["mlflow_experiment_name"] == "nightly churn"
    assert record["mlflow_resource_arn"].startswith(
        "arn:aws:sagemaker:us-east-1:123456789012:mlflow-app/"
    )

    other_run = start()

    record = other_run.xcoms["run"]
    assert record["mlflow_experiment_name"] is record["mlflow_resource_arn"] is None


@pytest.mark.parametrize("alias", ["prod", "missing"])
def test_alias_selects_the_definition_that_is_checked(alias: str, world: World) -> None:
    """
    The definition that is checked is that of the alias; an alias that no version has is
    named.
    """
    client: Any = PolysyncSageMakerHook().conn
    members = client.meta.service_model.operation_model(START).input_shape.members
    if "PipelineVersionAlias" not in members:
        pytest.skip("this botocore has no aliases")
    definition = json.loads(
        client.describe_pipeline(PipelineName="abalone")["PipelineDefinition"]
    )
    definition["Steps"] = definition["Steps"][:1]
    client.update_pipeline(
        PipelineName="abalone",
        PipelineDefinition=json.dumps(definition),
        PipelineVersionAliases=["prod"],
    )
    client.update_pipeline(
        PipelineName="abalone",
        PipelineDefinition=json.dumps({**definition, "Metadata": {}}),
    )

    run = start(
        pipeline_version_alias=alias,
        selected_steps=["AbaloneProcess"],
        wait_for_completion=False,
    )

    if alias == "prod":
        (call,) = world.control.calls(START)
        assert (run.error, call["request"]["PipelineVersionAlias"]) == (None, "prod")
    else:
        assert isinstance(run.error, SageMakerApiError)
        assert "ResourceNotFound" in str(run.error)
        assert alias in str(run.error)
        assert world.control.calls(START) == []
