"""
The task of a step: how it ends in both modes, and what it pushes, which is what a Start
task pushes of the step.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowSkipException,
    Asset,
    TaskDeferred,
)

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import EmptyOperator
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import DagRun, Run, TaskInstance, run_task
from tests.world import LIST_STEPS, World

if CAPABILITIES.start_from_trigger:
    from tests.unit.sensors.triggerer import run_from_trigger

MODES = ("worker", "triggerer") if CAPABILITIES.start_from_trigger else ("worker",)
REPORT = {"regression_metrics": {"mse": {"value": 4.9}}}
EVALUATED = {"property_files": {"EvaluationReport": REPORT}}
TRAINED = {"metrics": {"validation:rmse": 2.1}}
GOOD = {"steps": {"AbaloneEval": EVALUATED, "AbaloneTrain": TRAINED}}
LINES = ["reading s3://ml-bucket/abalone", "ValueError: 7 columns, not 8"]
FAILURE = {"reason": "AlgorithmError: bad data", "log_lines": LINES}
TRAIN_FAILS = {"steps": {"AbaloneTrain": {"fail": FAILURE}}}


_RUNS = count()


def run_execution(emulator: EmulatorServer, scenario: Any, **arguments: Any) -> Run:
    """
    Run the execution task of the pipeline abalone to its end, in a DAG run of its own.
    """
    emulator.control.put_scenario(scenario)
    own: dict[str, Any] = {
        "pipeline_parameters": {"InputDataUrl": "s3://ml-bucket/abalone"},
        "property_files": True,
        "poll_interval": 600,
        "progress_interval": None,
    }
    own |= {"task_id": "execution", "pipeline_name": "abalone", **arguments}
    states = ["running"]
    started_at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=next(_RUNS))
    dag_run = DagRun(started_at)
    ti = TaskInstance("execution", state=lambda: states[-1], dag_run=dag_run)
    run = run_task(PolysyncStartPipelineOperator(**own), ti)
    states.append("failed" if run.error else "success")
    emulator.control.clear_calls()
    return run


def make_operator(
    step_name: str = "Train", **arguments: Any
) -> PolysyncPipelineStepOperator:
    """Return the task of a step."""
    own: Any = {"task_id": "step", "execution_task_id": "execution", **arguments}
    return PolysyncPipelineStepOperator(step_name=step_name, **own)


def run_step(mode: str, step_name: str, **arguments: Any) -> Run:
    """
    Run the task of a step. Its result is also the XCom ``return_value``, as in Airflow.
    """
    run_in_mode = run_task if mode == "worker" else run_from_trigger
    run = run_in_mode(make_operator(step_name, **arguments), TaskInstance("step"))
    if run.result is not None:
        run.ti.xcoms["return_value"] = run.result
    return run


def run_in_each_mode(step_name: str, **arguments: Any) -> tuple[Run, list[str]]:
    """
    Run the task of a step in each mode; return the run, and the texts in the log that
    the modes have in common.
    """
    runs, texts = list[Run](), list[list[str]]()
    for mode in MODES:
        with capture_logs() as logs:
            runs.append(run_step(mode, step_name, **arguments))
        texts.append([line["event"] for line in logs])
    first, *others = runs
    for other in others:
        assert other.ti.xcoms == first.ti.xcoms
        assert type(other.error) is type(first.error)
        assert str(other.error) == str(first.error)
    return first, [text for text in texts[0] if all(text in each for each in texts)]


def row_of(execution: Run, step_name: str) -> dict[str, Any]:
    """Return the step in the XCom ``steps`` of the execution task."""
    (row,) = [row for row in execution.xcoms["steps"] if row["name"] == step_name]
    return dict(row)


# ---- the ends


def test_task_pushes_what_the_start_task_pushes(world: World) -> None:
    """
    Of a step of each type: the outputs, the row, the links; with the content of
    property files.
    """
    execution = run_execution(world.emulator, GOOD)
    outputs = execution.xcoms["outputs"]
    assert outputs["AbaloneTrain"]["metrics"] == {"validation:rmse": 2.1}
    assert outputs["AbaloneEval"]["EvaluationReport"]["regression_metrics"]
    assert outputs["AbaloneRegisterModel-RegisterModel"]["model_package_arn"]

    for row in execution.xcoms["steps"]:
        if row["name"] not in outputs:
            continue
        run, texts = run_in_each_mode(row["name"], property_files=True)

        xcoms = run.ti.xcoms
        for name in ("image", "inputs"):
            xcoms["step"].pop(name, None)
        links = {key: row[key] for key in ("console_url", "log_url") if row.get(key)}
        assert run.error is None
        assert xcoms == {
            "return_value": outputs[row["name"]],
            "step": row,
            "execution_arn": execution.result,
            **links,
        }
        succeeded = f"Step {row['name']} succeeded after "
        assert any(text.startswith(succeeded) for text in texts)


def test_error_of_a_failed_step_has_its_reason_job_and_log(world: World) -> None:
    """
    The error has the reason, the job and the last lines of its log, as that of a Start
    task has.
    """
    execution = run_execution(world.emulator, TRAIN_FAILS)

    run, _ = run_in_each_mode("AbaloneTrain", retries=2)

    row = row_of(execution, "AbaloneTrain")
    assert type(run.error) is exceptions.PipelineExecutionFailedError
    assert str(run.error).splitlines() == [
        "Step AbaloneTrain of pipeline abalone failed (AWS status Failed).",
        "Reason: AlgorithmError: bad data",
        f"  Job: {row['job_name']}",
        f"  Log: {row['log_url']}",
        f"  Job in the console: {row['console_url']}",
        "  Last lines of the log:",
        *(f"  | {line}" for line in run.ti.xcoms["step"]["log_lines"]),
        f"Execution: {execution.xcoms['execution_arn']}",
        f"Console: {execution.xcoms['console_url']}",
    ]
    assert run.ti.xcoms["step"]["log_lines"][-2:] == LINES
    step = {**run.ti.xcoms["step"], "log_lines": []}
    assert step == step | {**row, "log_lines": []}
    assert step["outputs"]["instance_type"] == "ml.m5.xlarge"
    assert "return_value" not in run.ti.xcoms


def test_step_has_what_its_job_cost_and_used(world: World) -> None:
    """
    By the descriptions that are read anyway: an image, inputs, and the cost by the same
    prices as that of the execution.
    """
    prices = {"us-east-1": {"ml.m5.xlarge": 3600.0}}
    table = {"currency": "USD", "date": "2026-11-01", "prices": prices}
    world.patch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(table))
    execution = run_execution(world.emulator, GOOD)

    costs = []
    for row in execution.xcoms["steps"]:
        run, _ = run_in_each_mode(row["name"])
        step = run.ti.xcoms["step"]
        costs.append(step.get("cost", {"amount": 0})["amount"])
        if row["name"] == "AbaloneTrain":
            trained = step

    assert trained["image"].startswith("683313688378.dkr.ecr.us-east-1.amazonaws.com/")
    assert [uri.rsplit("/")[-1] for uri in trained["inputs"]] == ["train"]
    assert trained["cost"]["prices_date"] == "2026-11-01"
    assert sum(costs) == pytest.approx(execution.xcoms["run"]["cost"]["amount"])
    assert len([cost for cost in costs if cost]) > 1


def test_facts_of_a_job_that_are_too_long_are_left_out() -> None:
    """One that is short still fits."""
    row = descriptions.StepRow(name="Train", state="Success")

    value = descriptions.step_value(
        row, {"inputs": 100 * ["s3://" + 2000 * "x"], "image": "image", "cost": None}
    )

    assert value.keys() - descriptions.StepRow.model_fields.keys() == {"image"}


def test_branch_that_was_not_taken(world: World) -> None:
    """The task is skipped, and says which condition had the other outcome."""
    execution = run_execution(world.emulator, GOOD)

    run, _ = run_in_each_mode("AbaloneMSEFail")

    text = "Step AbaloneMSEFail was not run: condition AbaloneMSECond had the other outcome."
    assert (type(run.error), str(run.error)) == (AirflowSkipException, text)
    assert run.ti.xcoms == {
        "step": row_of(execution, "AbaloneMSEFail"),
        "execution_arn": execution.xcoms["execution_arn"],
    }


def test_step_of_another_definition_is_skipped_with_a_warning(world: World) -> None:
    """
    The task is skipped with a warning that names the command which writes the file
    again.
    """
    execution = run_execution(world.emulator, GOOD)

    run, _ = run_in_each_mode("Renamed")

    assert type(run.error) is AirflowSkipException
    assert "polysync jobs import" in str(run.error)
    assert run.ti.xcoms == {"execution_arn": execution.xcoms["execution_arn"]}
    with capture_logs() as logs:
        run_step(MODES[-1], "Renamed")
    assert texts_of(logs, "warning")[-1] == str(run.error)


# ---- what fails around it


def test_execution_task_without_an_execution(world: World) -> None:
    """For example, its arguments were not valid."""
    execution = run_execution(world.emulator, GOOD, pipeline_parameters={})
    assert "run" not in execution.xcoms

    run, _ = run_in_each_mode("AbaloneTrain")

    text = "The task of the execution has ended (state failed) without an execution."
    assert type(run.error) is exceptions.PipelineExecutionFailedError
    assert str(run.error) == text
    assert run.ti.xcoms == {}


def test_refused_list_of_steps_fails_the_task_without_a_retry(world: World) -> None:
    """AWS's error; the task is not retried."""
    run_execution(world.emulator, GOOD)
    world.deny(LIST_STEPS)

    run, _ = run_in_each_mode("AbaloneTrain", retries=2)

    assert isinstance(run.error, exceptions.SageMakerApiError)
    assert run.error.permanent
    assert str(run.error).startswith("Step AbaloneTrain can no longer be watched: ")


def test_list_that_fails_after_the_event(world: World) -> None:
    """
    A worker lists the steps again. Without them, the task has the outcome of the step
    all the same.
    """
    run_execution(world.emulator, GOOD)
    world.deny(LIST_STEPS, skip=2)

    with capture_logs() as logs:
        run = run_step("worker", "AbaloneTrain")

    assert (run.error, run.result) == (None, {})
    assert any("What the step made is not known" in line["event"] for line in logs)


# ---- where it starts


def callback(context: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    "arguments",
    [
        {"on_success_callback": callback},
        {"on_execute_callback": callback},
        {"on_skipped_callback": callback},
        {"email": "ada@example.com"},
        {"outlets": [Asset("s3://bucket/model")]},
        {"execution_timeout": timedelta(hours=1)},
        {"pre_execute": callback},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_needs_a_worker_lets_the_task_start_there(
    arguments: dict[str, Any],
) -> None:
    """Airflow does it on workers only."""
    assert not make_operator(**arguments).start_from_trigger


def test_task_starts_on_a_worker_where_triggerers_have_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow gives the trigger of a task that starts in the triggerer no queue."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")

    assert not make_operator().start_from_trigger


def test_task_starts_in_the_triggerer_if_airflow_can() -> None:
    """Also with what the DAG processor does."""
    arguments: Any = {"on_failure_callback": callback, "property_files": ["Eval"]}
    operator = make_operator(retries=3, **arguments)

    assert bool(operator.start_from_trigger) is CAPABILITIES.start_from_trigger
    assert not {"step_name", "execution_task_id"} & set(operator.template_fields)


def test_interval_may_be_a_timedelta() -> None:
    """The trigger, whose arguments Airflow stores, gets seconds."""
    operator = make_operator(poll_interval=timedelta(minutes=2))
    context: Any = {"ti": TaskInstance("step")}

    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)

    assert deferred.value.trigger.serialize()[1]["poll_interval"] == 120.0
    if operator.start_trigger_args:
        stored = operator.start_trigger_args.trigger_kwargs or {}
        assert stored["poll_interval"] == 120.0


@pytest.mark.skipif(
    not CAPABILITIES.start_from_trigger, reason="no task starts in the triggerer"
)
@pytest.mark.parametrize(("tasks", "in_triggerer"), [(200, True), (201, False)])
def test_large_dag_needs_workers(tasks: int, in_triggerer: bool) -> None:
    """Airflow sends the whole DAG to the triggerer for each task that starts there."""
    with DAG("large", schedule=None) as dag:
        step = make_operator()
        for number in range(tasks - 1):
            EmptyOperator(task_id=f"other_{number}")

    from airflow.serialization.serialized_objects import DagSerialization

    stored_dag = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    stored = stored_dag.get_task(step.task_id)

    assert bool(stored.start_from_trigger) is in_triggerer


def test_later_try_with_the_end_of_an_earlier_one_says_that_nothing_is_repeated(
    world: World,
) -> None:
    """
    A clear of the task alone looks like a repetition, and is none. After one with
    Downstream, a step may have ended again before its task begins.
    """
    nothing = (
        "AWS has repeated nothing: step AbaloneTrain had ended before this try. To"
        " repeat it, clear this task with Downstream."
    )
    said = []
    xcoms: dict[str, Any] = {}
    executions = iter([True, False, True])
    for try_number, is_new in enumerate(executions, start=1):
        if is_new:
            run_execution(world.emulator, GOOD)
        # Airflow keeps the XComs of a task that begins again in the triggerer.
        ti = TaskInstance("step", try_number=try_number, xcoms=xcoms)
        with capture_logs() as logs:
            run_task(make_operator("AbaloneTrain"), ti)
        xcoms = ti.xcoms
        said.append(nothing in texts_of(logs))

    assert said == [False, True, False]
