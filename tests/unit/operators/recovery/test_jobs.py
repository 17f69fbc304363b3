"""
Jobs, whose pipelines their tasks make: at most one execution, wherever a try dies, and
whatever other runs make of the pipeline.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution.job_types import is_name_of_task
from polysync_airflow.operators import PolysyncRunJobOperator
from tests.conftest import IN_BOTH_MODES, connection
from tests.fakes.json_store import JsonStore
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.harness import (
    JOB_ROLE,
    PROCESSING,
    CrashError,
    JobTask,
    crash,
    step_attempts,
)
from tests.world import START, World

UPDATE, CREATE = "UpdatePipeline", "CreatePipeline"
TRANSFORM = {
    "ModelName": "m",
    "TransformInput": {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://ml"}}
    },
    "TransformOutput": {"S3OutputPath": "s3://ml/out"},
    "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
}


def versions(world: World) -> list[int]:
    """Return the number of versions of each pipeline that a task has made."""
    (region,) = world.emulator.sagemaker.regions.values()
    return [
        len(pipeline.versions)
        for pipeline in region.pipelines.values()
        if pipeline.name.startswith("airflow-")
    ]


def days(world: World) -> list[str]:
    """Return the days for which executions have run, in the order of their starts."""
    started = [
        {each["Name"]: each["Value"] for each in record.request["PipelineParameters"]}
        for record in world.log.executions
    ]
    return [parameters["Environment-DAY"] for parameters in started]


@IN_BOTH_MODES
@pytest.mark.parametrize("operation", [UPDATE, CREATE, START])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["record", "lost"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside"])
def test_crash(
    moment: str,
    operation: str,
    is_lost: bool,
    beside: bool,
    deferrable: bool,
    world: World,
) -> None:
    """
    A try dies before or after each call, its record is kept or lost, and another run
    with another config starts meanwhile: one execution, and the retry succeeds.
    """
    task = JobTask(deferrable)
    getattr(world.requests, moment)(operation, crash)
    assert isinstance(task.next_try().error, CrashError)
    world.requests.clear()
    if beside:
        config = {**PROCESSING, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
        other = JobTask(
            deferrable, run_id="scheduled__2", day="2026-01-02", config=config
        )
        assert other.next_try().error is None
    if is_lost:
        task.store = JsonStore()

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    assert days(world).count("2026-01-01") == 1
    # That the pipeline may be missing is normal.
    assert "cannot be looked up" not in str(texts_of(logs))


def test_all_runs_share_one_version(world: World) -> None:
    """Ten days, and ten mapped tasks of one run, which have values of their own."""
    for day in range(1, 11):
        task = JobTask(run_id=f"scheduled__{day}", day=f"2026-03-{day:02}")
        assert task.next_try(wait_for_completion=False).error is None
    for index in range(10):
        task = JobTask(task_id="mapped", map_index=index, day=f"m{index}")
        assert task.next_try(wait_for_completion=False).error is None

    assert versions(world) == [1, 1]
    assert len(set(days(world))) == 20


@IN_BOTH_MODES
def test_each_run_has_its_own_config(deferrable: bool, world: World) -> None:
    """Another run makes another version between the put and the start."""
    config = {**PROCESSING, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    other = JobTask(deferrable, run_id="scheduled__2", config=config)
    world.requests.before(START, lambda _: other.next_try())

    assert JobTask(deferrable).next_try().error is None

    assert [record.version.id for record in world.log.executions] == [2, 1]


@IN_BOTH_MODES
def test_resume_has_the_version_of_its_start(deferrable: bool, world: World) -> None:
    """Another run has made another version since, and no argument is another one."""
    failure = {"reason": "AlgorithmError: x", "times": 1}
    world.control.put_scenario({"steps": {"train": {"fail": failure}}})
    task = JobTask(deferrable, {"retry_mode": "resume"})
    task.next_try()
    config = {**PROCESSING, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    JobTask(run_id="scheduled__2", config=config).next_try()

    with capture_logs() as logs:
        assert task.next_try().error is None

    first = world.log.executions[0]
    assert step_attempts(first) == {"train": 2}
    assert (first.version.id, first.engine.status) == (1, "Succeeded")
    assert [text for text in texts_of(logs) if "not used" in text] == []


def test_long_names_of_dags(world: World) -> None:
    """The names of the pipelines differ, and are those of tasks."""
    for number in range(2):
        run = JobTask(task_id=f"{'train' * 40}{number}").next_try()
        assert run.error is None

    names = {record.pipeline.name for record in world.log.executions}
    assert len(names) == 2
    assert [len(name) for name in names if is_name_of_task(name)] == [82, 82]


def test_name_of_a_pipeline_of_82_characters(world: World) -> None:
    """It is the longest one with which AWS was seen to create a pipeline."""
    assert JobTask().next_try(pipeline_name="p" * 82).error is None


def test_deployments_do_not_share_a_pipeline(world: World) -> None:
    """A copy of the deployment has the same DAG and task, and a pipeline of its own."""
    for deployment in ("prod", "staging"):
        task = JobTask()
        world.patch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", deployment)
        assert task.next_try().error is None

    assert versions(world) == [1, 1]


@pytest.mark.parametrize(
    ("of_connection", "given", "role"),
    [
        (None, None, JOB_ROLE),
        (f"{JOB_ROLE}2", None, f"{JOB_ROLE}2"),
        (f"{JOB_ROLE}2", f"{JOB_ROLE}3", f"{JOB_ROLE}3"),
    ],
)
def test_pipeline_has_a_role_and_says_whose_it_is(
    of_connection: str | None, given: str | None, role: str, world: World
) -> None:
    """The author's role comes before that of the connection and that of the job."""
    extra = {"execution_role_arn": of_connection} if of_connection else {}
    value = connection(endpoint_url=world.emulator.endpoint_url, **extra)
    world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)

    run = JobTask().next_try(role_arn=given, pipeline_tags={"team": "ml"})

    assert run.error is None
    (record,) = world.log.executions
    assert record.pipeline.role_arn == role
    tags = record.pipeline.tags
    assert len(tags.pop("airflow:deployment")) == 8
    assert tags == {
        "team": "ml",
        "airflow:dag_id": "retraining",
        "airflow:task_id": "train",
    }


def test_mapped_tasks_have_no_name_of_a_pipeline() -> None:
    """The name follows when the task runs, so no template can show it before."""
    with DAG("mapped", schedule=None):
        mapped: Any = PolysyncRunJobOperator.partial(
            task_id="each", job_type="Processing"
        ).expand(config=[PROCESSING])

    assert mapped.map_index_template is None
    assert mapped.unmap({"config": PROCESSING}).pipeline_name == ""


def test_cluster_policy_may_change_the_config() -> None:
    """What is a template follows from what Airflow renders."""
    operator = PolysyncRunJobOperator(task_id="a", job_type="Processing", config={})
    operator.config = PROCESSING

    assert operator.prepare_for_execution().config_template is PROCESSING


def with_member(*path: str, value: Any) -> dict[str, Any]:
    """Return the request with another value of a member."""
    config = deepcopy(PROCESSING)
    holder = config
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return config


DAY = ("Environment", "DAY")
COUNT = ("ProcessingResources", "ClusterConfig", "InstanceCount")
WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown member": (
        {"config": with_member("InstanceCont", value=2)},
        ['Unknown parameter in input: "InstanceCont"'],
    ),
    "wrong type": (
        {"config": with_member(*COUNT, value="{{ ds }}")},
        [
            "ClusterConfig.InstanceCount, value: 2026-01-01",
            "valid types: <class 'int'>",
        ],
    ),
    "missing": (
        {"config": {"RoleArn": JOB_ROLE}},
        ['Missing required parameter in input: "AppSpecification"'],
    ),
    "no dict": (
        {"config": "{{ ds }}"},
        ["input, value: 2026-01-01", "valid types: <class 'dict'>"],
    ),
    "empty value": (
        {"config": with_member(*DAY, value="{{ '' }}")},
        ["Environment.DAY = ''", "1 to 1,024 characters"],
    ),
    "long value": (
        {"config": with_member(*DAY, value="{{ 'x' * 1025 }}")},
        ["Environment.DAY = ", "1,025 characters", "S3 URI"],
    ),
    "many templates": (
        {
            "config": with_member(
                "Environment", value={f"K{index}": "{{ ds }}" for index in range(201)}
            )
        },
        ["204 templates", "at most 200"],
    ),
    "parameters": (
        {"pipeline_parameters": ["Day"]},
        ["pipeline_parameters = a list of 1", "give a dict"],
    ),
    "long name of a parameter": (
        {"pipeline_parameters": {"P" * 65: 1}},
        ["pipeline_parameters['PPPP", "(65 characters)", "1 to 64 letters"],
    ),
    "name of a parameter": (
        {"pipeline_parameters": {"a.b": 1}},
        ["pipeline_parameters['a.b']", "1 to 64 letters"],
    ),
    "name of the job": (
        {"config": with_member("ProcessingJobName", value="report_{{ ds }}")},
        ["ProcessingJobName = 'report_2026-01-01'", "1 to 63 letters", "leave it out"],
    ),
    "empty name of the job": (
        {"config": with_member("ProcessingJobName", value="{{ '' }}")},
        ["ProcessingJobName = ''", "leave it out"],
    ),
    "long name of a model": (
        {
            "job_type": "Transform",
            "config": {"Model": {"ModelName": "m" * 64}, "Transform": TRANSFORM},
        },
        ["ModelName = 'mmm", "(64 characters)", "1 to 63 letters"],
    ),
    "run": (
        {"config": with_member("ExperimentConfig", value={"RunName": "a"})},
        ["RunName: leave it out"],
    ),
    "no role": (
        {"job_type": "Transform", "config": TRANSFORM},
        ["role_arn = None", "arn:aws:iam::"],
    ),
    "name of a role": ({"role_arn": "SageMakerRole"}, ["role_arn = 'SageMakerRole'"]),
    "tags": ({"pipeline_tags": {"a": 1}}, ["pipeline_tags['a'] = 1"]),
    "name": (
        {"pipeline_name": "arn:aws:x"},
        ["pipeline_name = 'arn:aws:x'", "not its ARN"],
    ),
    "long name": (
        {"pipeline_name": "p" * 83},
        ["pipeline_name = 'ppp", "(83 characters)", "over 82", "step train", "shorten"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_once(wrong: str, world: World) -> None:
    """One error names the member, its value and the cure, and AWS gets nothing."""
    arguments, texts = WRONG[wrong]

    error = JobTask().next_try(**arguments).error

    assert isinstance(error, ParametersError)
    assert [text for text in texts if text not in str(error)] == []
    assert re.search("Nothing was started|No pipeline was created", str(error))
    assert world.calls() == []


@IN_BOTH_MODES
@pytest.mark.parametrize("operation", [UPDATE, CREATE])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException"])
def test_refused_pipeline(
    operation: str, code: str, deferrable: bool, world: World
) -> None:
    """AWS denies the action, or a reference in a member; nothing starts."""
    world.control.add_fault("error", operation, code=code, message="no: {Get: x}")

    error = JobTask(deferrable).next_try().error

    assert f"{operation} failed: {code}: no: {{Get: x}}" in str(error)
    assert isinstance(error, SageMakerApiError)
    assert error.permanent
    assert world.log.executions == []


@IN_BOTH_MODES
def test_updates_of_many_tasks(deferrable: bool, world: World) -> None:
    """One that AWS refuses meanwhile is repeated, for longer than a start."""
    busy = {"code": "ConflictException", "message": "busy", "seconds": 500}
    world.control.add_fault("error", UPDATE, **busy)

    assert JobTask(deferrable).next_try().error is None


@IN_BOTH_MODES
def test_too_many_pipelines(deferrable: bool, world: World) -> None:
    """To wait for capacity would not help."""
    world.control.add_fault(
        "error", CREATE, code="ResourceLimitExceeded", message="500 Pipelines"
    )

    error = JobTask(deferrable).next_try(wait_for_capacity=True).error

    assert "polysync pipelines list --unused" in str(error)
    assert world.calls() == [UPDATE, CREATE]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"job_type": "AutoML"}, "Training, Processing, Transform, Tuning"),
        ({"step": {"Arguments": {}}}, "CacheConfig"),
        ({"pipeline_version_id": 2}, "leave it out"),
    ],
)
def test_arguments_that_no_job_has(arguments: dict[str, Any], text: str) -> None:
    """The DAG file says what is valid when Airflow parses it."""
    with pytest.raises(ParametersError, match=text):
        JobTask(arguments=arguments)


class Native(JobTask):
    """A task whose templates render to values of Python."""

    def _make_operator(self, changes: dict[str, Any]) -> Any:
        with DAG("native", render_template_as_native_obj=True, schedule=None):
            return super()._make_operator(changes)


def test_rendered_lists_are_in_the_definition(world: World) -> None:
    """
    A list makes a version of its own; numbers are parameters in the place of a number,
    and texts in that of a text, each with a name of its own, and as the DAG author has
    named them. The name of the step and caches are valid.
    """
    config = with_member(
        "AppSpecification",
        value={
            "ImageUri": "image",
            "ContainerArguments": "{{ [ds, '--all'] }}",
        },
    )
    config["Environment"]["N"] = "{{ params.n }}"
    place = {"VolumeSizeInGB": {"Get": "Parameters.Environment-N"}}
    config["ProcessingResources"]["ClusterConfig"] |= place
    step = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}
    # Both names that the place of N would have.
    given = {"Environment-N": 5, "Environment-N-000850e2": "x"}
    for day in ("a", "b"):
        task = Native(task_id="group.a.task", run_id=day, day=day, config=config)
        run = task.next_try(step=step, pipeline_parameters=given)
        assert run.error is None

    document = world.log.executions[1].version.definition.document
    (made,) = document["Steps"]
    arguments = made["Arguments"]
    assert made["CacheConfig"] == step["CacheConfig"]
    assert arguments["AppSpecification"]["ContainerArguments"] == ["b", "--all"]
    name = "Environment-N-b43d791f"
    assert arguments["Environment"]["N"] == {"Get": f"Parameters.{name}"}
    declared = {each["Name"]: each["Type"] for each in document["Parameters"]}
    assert declared == {
        "Environment-N": "Integer",
        "Environment-N-000850e2": "String",
        "Environment-DAY": "String",
        name: "String",
        "ProcessingJobName": "String",
        "ProcessingResources-ClusterConfig-InstanceCount": "Integer",
    }
    assert versions(world) == [2]


@IN_BOTH_MODES
def test_name_of_a_job_is_its_prefix(deferrable: bool, world: World) -> None:
    """It is cut where it is longer than AWS's limit, and a job may have none."""
    unnamed = {**PROCESSING}
    unnamed.pop("ProcessingJobName")
    long = with_member("ProcessingJobName", value="r" * 63)
    arns: list[str] = []
    for config in (PROCESSING, long, unnamed):
        run = JobTask(deferrable, run_id=f"r{len(arns)}", config=config).next_try()
        assert run.error is None
        arns.append(run.xcoms["outputs"]["train"]["processing_job_arn"])

    execution = [record.id for record in world.log.executions]
    begins = [f"report-2026-01-01-{execution[0]}", f"{'r' * 38}-{execution[1]}"]
    begins.append(f"pipelines-{execution[2]}-train")
    assert [arn.rpartition("/")[2][:-11] for arn in arns] == begins


@IN_BOTH_MODES
def test_report_of_a_job_is_in_outputs(deferrable: bool, world: World) -> None:
    """The step declares the file, and AWS may repeat its job."""
    output = {"S3Uri": "s3://ml-bucket/{{ ds }}", "LocalPath": "/a"}
    output["S3UploadMode"] = "EndOfJob"
    outputs = [{"OutputName": "report", "S3Output": output}]
    config = with_member("ProcessingOutputConfig", value={"Outputs": outputs})
    file = {"PropertyFileName": "Eval", "OutputName": "report", "FilePath": "e.json"}
    repeated = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "MaxAttempts": 2}
    files = {"property_files": {"Eval": {"auc": 0.9}}}
    world.control.put_scenario({"steps": {"train": files}})

    run = JobTask(deferrable, config=config).next_try(
        step={"PropertyFiles": [file], "RetryPolicies": [repeated]}, property_files=True
    )

    assert run.error is None
    assert run.xcoms["outputs"]["train"]["Eval"] == {"auc": 0.9}
    (made,) = world.log.executions[0].version.definition.document["Steps"]
    assert made["RetryPolicies"] == [repeated]
