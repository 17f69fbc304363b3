"""
What the Start operator tells OpenLineage, in both modes, as Airflow's OpenLineage
provider asks for it.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import pytest
from airflow.providers.openlineage.extractors import ExtractorManager, OperatorLineage
from airflow.utils.state import TaskInstanceState
from openlineage.client.event_v2 import Dataset
from openlineage.client.serde import Serde

from polysync_airflow import operators
from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionFailedError,
    TriggerEventError,
)
from polysync_airflow.execution.datasets import MAX_DATASETS, datasets_of
from polysync_airflow.execution.outcome import FailedStep, RunSummary
from polysync_airflow.execution.results import JOB_KINDS
from polysync_airflow.lineage import (
    MAX_FAILED_STEPS,
    MAX_PARAMETERS,
    PRODUCER,
    of_execution,
)
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests import tasks
from tests.conftest import IN_BOTH_MODES
from tests.tasks import Run
from tests.unit.operators.outcome.ended_account import (
    ACCOUNT,
    ARN,
    KINDS,
    PACKAGE,
    PROCESSING,
    TRAINING,
    Account,
    error,
    start,
)

CONSOLE = (
    "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1"
    f"#/pipelines/churn/executions/{ARN}"
)
PARAMETERS = {"InputData": "s3://ml-bucket/raw", "MaxJobs": 4}
PREPARE = {
    **PROCESSING,
    "ProcessingInputs": [
        {"InputName": "raw", "S3Input": {"S3Uri": "s3://ml-bucket/raw/"}},
        {"InputName": "broken", "S3Input": {"S3Uri": "s3://user:password@host/x"}},
    ],
}
CHANNELS = {"train": "s3://ml-bucket/eval", "validation": "s3://other/validation"}
TRAIN = {
    **TRAINING,
    "InputDataConfig": [
        {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}
        for name, uri in CHANNELS.items()
    ],
}
JOBS = {KINDS["ProcessingJob"][0]: PREPARE, KINDS["TrainingJob"][0]: TRAIN}


def extracted(
    operator: Any, state: TaskInstanceState = TaskInstanceState.SUCCESS
) -> OperatorLineage[Any, Any]:
    """
    Return what the provider makes of an operator; its log has an error if a method
    raises one.
    """
    run: Any = type("Run", (), {"run_id": "r"})
    manager: Any = ExtractorManager
    lineage: OperatorLineage[Any, Any] = manager().extract_metadata(
        run, operator, state, task_instance=None
    )
    assert lineage.job_facets, "a method has failed"
    return lineage


def facets(lineage: OperatorLineage[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the facets about the pipeline and the execution, as they are sent."""
    (job,) = lineage.job_facets.items()
    (run,) = lineage.run_facets.items()
    assert job[0] == "polysync_sagemakerPipeline"
    assert run[0] == "polysync_sagemakerExecution"
    sent = [Serde.to_dict(facet) for facet in (job[1], run[1])]
    for facet in sent:
        assert facet.pop("_producer") == PRODUCER
        assert facet.pop("_schemaURL").startswith("https://openlineage.io/spec/")
    return sent[0], sent[1]


def names(datasets: list[Any]) -> list[str]:
    """Return namespace and name of each dataset, as one URI."""
    return [f"{each.namespace}/{each.name}" for each in datasets]


def train(aws: Account, deferrable: bool, **arguments: Any) -> Run:
    """Run a task whose execution prepares data, trains and registers a model."""
    aws.add("ProcessingJob")
    aws.add("TrainingJob")
    aws.add("RegisterModel")
    aws.jobs |= JOBS
    return start(deferrable, pipeline_parameters=PARAMETERS, **arguments)


@IN_BOTH_MODES
def test_success_has_its_inputs_and_outputs(deferrable: bool, aws: Account) -> None:
    """
    The facets name the execution; what a step has written for another one is an output
    only. No call is made.
    """
    outlets = [Dataset("s3://ml-bucket", name) for name in ("published", "eval")]
    inlets = [Dataset("s3://other", "table")]
    run = train(aws, deferrable, outlets=outlets, inlets=inlets)
    asked = list(aws.asked)

    lineage = extracted(run.operator)

    job, execution = facets(lineage)
    summary = run.xcoms["run"]
    assert job == {"pipelineName": "churn", "region": "us-east-1"}
    assert execution == {
        "executionArn": ARN,
        "consoleUrl": CONSOLE,
        "state": "Success",
        "status": "Succeeded",
        "parameters": {"InputData": "s3://ml-bucket/raw", "MaxJobs": "4"},
        "failedSteps": [],
        "startedAt": summary["started_at"].replace("Z", "+00:00"),
        "billableSeconds": summary["billable_seconds"],
        "resumes": 0,
    }
    read = ["s3://ml-bucket/raw", "s3://other/validation", "s3://other/table"]
    assert names(lineage.inputs) == read
    assert names(lineage.outputs) == [
        f"{ACCOUNT}/model-package/churn/7",
        "s3://ml-bucket/eval",
        "s3://ml-bucket/model.tar.gz",
        "s3://ml-bucket/published",
    ]
    assert aws.asked == asked


def test_what_is_reused_is_an_input(
    deferrable: bool, aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An earlier execution has read the data, made the model and registered it; this one
    has not.
    """
    extras: list[Any] = []

    def attach(_: Any, __: Any, extra: Any, *___: Any) -> None:
        extras.append(extra)

    monkeypatch.setattr(operators.reporting, "attach_to_outlets", attach)
    result = {"SourcePipelineExecutionArn": ARN}
    source: dict[str, Any] = {"SelectiveExecutionResult": result}
    aws.add("TrainingJob", **source)
    aws.add("RegisterModel", **source)
    aws.add("ProcessingJob")
    aws.jobs |= JOBS

    run = start(deferrable)

    lineage = extracted(run.operator)
    assert run.error is None
    assert run.xcoms["outputs"]["RegisterModel"]["model_package_arn"] == PACKAGE
    assert extras == [{"execution_arn": ARN, "console_url": CONSOLE}]
    read = ["s3://ml-bucket/model.tar.gz", "s3://ml-bucket/raw"]
    assert names(lineage.inputs) == [f"{ACCOUNT}/model-package/churn/7", *read]
    assert names(lineage.outputs) == ["s3://ml-bucket/eval"]


@pytest.mark.parametrize(
    ("fails", "error", "state"),
    [
        ("event", TriggerEventError, "Running"),
        ("push", OSError, "Running"),
        # Without a failure, the end is known.
        ("pull", NoneType, "Success"),
    ],
)
def test_failure_after_a_deferral_names_the_execution(
    fails: str,
    error: type[Any],
    state: str,
    aws: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The resumed process names the execution, whatever fails in it. A failed read does
    not keep it from its end.
    """
    fire = tasks.fire

    async def resumed(*arguments: Any) -> Any:
        def fail(self: Any, *_: Any, **__: Any) -> Any:
            raise OSError("Airflow does not respond")

        if fails != "event":
            monkeypatch.setattr(tasks.TaskInstance, f"xcom_{fails}", fail)
        event = await fire(*arguments)
        return {} if fails == "event" else event

    monkeypatch.setattr(tasks, "fire", resumed)

    run = start(True, pipeline_parameters=PARAMETERS)

    assert type(run.error) is error
    _, execution = facets(extracted(run.operator, TaskInstanceState.FAILED))
    assert execution["state"] == state
    assert execution["executionArn"] == ARN
    assert execution["parameters"] == {**PARAMETERS, "MaxJobs": "4"}
    assert run.operator.current_run.try_runner.is_handled is (fails != "event")


@IN_BOTH_MODES
def test_failure_has_its_reason_and_failed_steps(
    deferrable: bool, aws: Account
) -> None:
    """
    The reason and the failed steps are named; what a failed step should have written is
    no output.
    """
    aws.status = "Failed"
    aws.add("TrainingJob", StepStatus="Failed", FailureReason="no \x1bdata")
    aws.add("ProcessingJob", StepStatus="Stopped")
    aws.jobs |= JOBS
    run = start(deferrable, outlets=[Dataset("s3://ml-bucket", "published")])

    lineage = extracted(run.operator, TaskInstanceState.FAILED)

    assert isinstance(run.error, PipelineExecutionFailedError)
    _, execution = facets(lineage)
    assert execution["executionArn"] == ARN
    assert execution["state"] == "Failed"
    assert execution["status"] == "Failed"
    failed = {"name": "TrainingJob", "reason": "no \ufffddata"}
    assert execution["failedSteps"] == [failed]
    read = ["s3://ml-bucket/eval", "s3://other/validation", "s3://ml-bucket/raw"]
    assert names(lineage.inputs) == read
    assert names(lineage.outputs) == ["s3://ml-bucket/published"]


def test_stopped_execution_is_cancelled(deferrable: bool, aws: Account) -> None:
    """A task that is skipped because somebody stopped the execution says so."""
    aws.status = "Stopped"
    run = start(deferrable, on_cancelled="skip")

    _, execution = facets(extracted(run.operator, TaskInstanceState.SKIPPED))

    assert type(run.error).__name__ == "AirflowSkipException"
    assert execution["state"] == "Cancelled"


def test_task_without_a_wait_names_its_execution(
    deferrable: bool, aws: Account
) -> None:
    """
    A task that does not wait knows the execution; one that may describe no jobs also
    its model packages.
    """
    not_awaited = train(aws, deferrable, wait_for_completion=False)
    denied = error("AccessDeniedException")
    aws.errors = {kind.operation: denied for kind in JOB_KINDS.values()}
    not_described = train(aws, deferrable)

    lineage = extracted(not_awaited.operator)
    _, execution = facets(lineage)
    assert execution["executionArn"] == ARN
    assert execution["state"] == "Running"
    assert lineage.inputs == []
    assert lineage.outputs == []
    lineage = extracted(not_described.operator)
    assert names(lineage.inputs) == []
    assert names(lineage.outputs) == [f"{ACCOUNT}/model-package/churn/7"]


def test_task_that_fails_before_its_start_names_the_pipeline(aws: Account) -> None:
    """
    A task that fails before it has an execution says which pipeline it was to start, as
    at its start.
    """
    parameters: Any = {"a": None, "b": True, "c": "x" * 1025, "d": []}
    run = start(False, region_name="eu-west-1", pipeline_parameters=parameters)

    assert isinstance(run.error, ParametersError)
    for state in (TaskInstanceState.RUNNING, TaskInstanceState.FAILED):
        lineage = extracted(run.operator, state)
        job, execution = facets(lineage)
        assert job == {"pipelineName": "churn", "region": "eu-west-1"}
        assert execution == {"parameters": {"b": "True"}, "parametersLeftOut": 3}
        assert lineage.inputs == []
        assert lineage.outputs == []


@pytest.mark.parametrize(
    "name",
    [None, 7, f"{ACCOUNT}:pipeline/churn", "x\n" * 10_000, object()],
    ids=["none", "number", "ARN", "long", "object"],
)
@pytest.mark.parametrize(
    "parameters",
    [None, "text", [1], {1: 2}, {"a": object()}],
    ids=["none", "text", "list", "number", "object"],
)
def test_arguments_not_checked_yet_break_no_facet(name: Any, parameters: Any) -> None:
    """Airflow asks before the operator has checked what the templates have rendered."""
    operator: Any = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn"
    )
    operator.pipeline_name = name
    operator.pipeline_parameters = parameters

    job, execution = facets(extracted(operator, TaskInstanceState.RUNNING))

    assert len(job["pipelineName"]) <= 256
    assert "\n" not in job["pipelineName"]
    assert execution["parameters"] == ({"1": "2"} if parameters == {1: 2} else {})


def test_large_execution_is_bounded() -> None:
    """
    What is left out is counted, and the event stays small enough to be made within a
    fraction of its time limit.
    """
    uris = [f"s3://ml-bucket/{number:04}{'k' * 1000}" for number in range(4000)]
    summary = RunSummary(
        execution_arn=ARN,
        pipeline_name="churn",
        state="Failed",
        message="m" * 10**6,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        parameters={f"p{number}": "v" * 1024 for number in range(3000)},
        failed_steps=[
            FailedStep(name="n" * 10**5, reason="r" * 10**5) for _ in range(300)
        ],
    )
    before = time.process_time()

    lineage = of_execution(summary, datasets_of(uris[:2000], uris[2000:]))

    assert time.process_time() - before < 1
    _, execution = facets(lineage)
    assert len(execution["parameters"]) == MAX_PARAMETERS
    assert execution["parametersLeftOut"] == 3000 - MAX_PARAMETERS
    assert len(execution["failedSteps"]) == MAX_FAILED_STEPS
    assert len(lineage.inputs) == MAX_DATASETS
    assert len(lineage.outputs) == MAX_DATASETS
    assert execution["datasetsLeftOut"] == 4000 - 2 * MAX_DATASETS
    assert len(json.dumps(execution)) < 300_000


def test_task_runs_as_before_without_openlineage(
    deferrable: bool, aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task runs as before where the provider is not installed: nothing imports it."""
    for name in [*sys.modules, "openlineage", "airflow.providers.openlineage"]:
        if name.startswith(("openlineage", "airflow.providers.openlineage")):
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "polysync_airflow.lineage")

    run = train(aws, deferrable)

    assert run.error is None
    assert run.xcoms["state"] == "Success"
    with pytest.raises(ImportError):
        run.operator.get_openlineage_facets_on_complete(None)
