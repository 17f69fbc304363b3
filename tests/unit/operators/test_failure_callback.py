"""The failure callback stops the execution of a task whose process has died."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.operators import (
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
    failure_callback,
    failure_callback_run,
)
from polysync_airflow.records.keys import RECORD_KEY, variable_key
from tests.conftest import ARN, connection
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.operators.recovery.harness import (
    CrashError,
    crash,
    run_failure_callbacks,
)
from tests.world import LIST, NEVER_ENDS, START, STOP, World


def make_task(**arguments: Any) -> Any:
    """
    Return the task as the DAG processor has it: in its DAG, with templates that are not
    rendered.
    """
    with DAG("retraining"):
        return PolysyncStartPipelineOperator(
            **{
                "task_id": "train",
                "pipeline_name": "fanout",
                "poll_interval": 30,
                **arguments,
            }
        )


def run_to_crash(ti: TaskInstance, task: Any = None) -> TaskInstance:
    """Run a task until it crashes; return its task instance."""
    with pytest.raises(CrashError):
        run_task(task or make_task(), ti)
    return ti


def crash_while_waiting(clock: EmulatedTime, **members: Any) -> TaskInstance:
    """
    Let a task crash after it has waited on the worker for a minute; return its task
    instance.
    """
    clock.after(60, crash)
    return run_to_crash(TaskInstance("train", **members))


def test_execution_of_a_dead_process_is_stopped(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The callback finds the execution by the record in the XComs, renders the connection
    id, and stops it once.
    """
    ti = crash_while_waiting(world.time)
    task = make_task(polysync_conn_id="{{ 'polysync' }}_default")
    assert world.control.calls(STOP) == []
    # Neither another region of the connection nor a throttled call keeps it from that.
    other_region = connection(
        endpoint_url=world.emulator.endpoint_url, region_name="eu-west-1"
    )
    world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", other_region)
    world.control.add_fault("throttle", STOP, count=1)

    run_failure_callbacks(task, ti)
    run_failure_callbacks(task, ti)

    arn = ti.xcoms["execution_arn"]
    (_, *calls) = world.control.calls(STOP)
    assert {call["region"] for call in calls} == {"us-east-1"}
    assert {call["request"]["PipelineExecutionArn"] for call in calls} == {arn}
    assert len({call["request"]["ClientRequestToken"] for call in calls}) == 1
    line = f"The process of the task has died. The execution was asked to stop. Execution: {arn}"
    assert line in caplog.messages


JOB = PolysyncRunJobOperator(
    task_id="train", job_type="Training", config={}, dag=DAG("retraining")
)


@pytest.mark.parametrize(
    ("try_number", "lines", "task", "pipeline"),
    [
        (1, 0, make_task(), ""),
        (2, 1, make_task(), "fanout"),
        (2, 1, JOB, "airflow-retraining-train-*"),
    ],
    ids=["retry", "last", "job"],
)
def test_callback_without_a_record_says_so(
    try_number: int,
    lines: int,
    task: Any,
    pipeline: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says what to check, unless a retry follows, as Airflow 3.2 calls it then, too."""
    capabilities = CAPABILITIES._replace(failure_callback_is_final=False)
    monkeypatch.setattr(failure_callback_run, "CAPABILITIES", capabilities)
    ti = TaskInstance("train", try_number=try_number, max_tries=1)

    run_failure_callbacks(task, ti)

    key = variable_key(TaskKey.of(ti))
    assert [line for line in caplog.messages if "failed" in line] == lines * [
        "The task has failed. No execution is stopped: there is no valid record, the"
        f" Variable {key!r}. Either none was started, or somebody has deleted or edited"
        " the record. If you are not sure, look for the executions of the pipeline"
        f" {pipeline!r} in the SageMaker console."
    ]


def test_callback_on_a_worker_without_a_record_says_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """AWS has refused the start, as the error of the task says."""
    world.control.add_fault("error", START, code="ValidationException", message="no")
    task = make_task()
    run = run_task(task)
    caplog.clear()

    run_failure_callbacks(task, run.ti)

    assert caplog.messages == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda _: "a text",
        lambda record: {**record, "execution_arn": ARN},
        lambda record: {**record, "execution_arn": None},
        lambda record: {**record, "signature": None},
    ],
)
def test_callback_believes_only_the_task_itself(edit: Any, world: World) -> None:
    """It calls AWS only for a record that the failed try has signed."""
    ti = crash_while_waiting(world.time)
    ti.store.set(RECORD_KEY, edit(ti.store.get(RECORD_KEY)))
    world.control.clear_calls()

    run_failure_callbacks(make_task(), ti)

    assert world.calls() == []


def test_stop_on_kill_false_keeps_the_execution(world: World) -> None:
    """With ``stop_on_kill=False`` the callback stops nothing."""
    run_failure_callbacks(
        make_task(stop_on_kill=False), crash_while_waiting(world.time)
    )

    assert world.control.calls(STOP) == []


def test_callback_does_nothing_after_an_ordinary_failure(world: World) -> None:
    """
    The callback runs after every failure; an execution that has ended or never started
    needs no stop.
    """
    world.control.put_scenario({"steps": {"Shard3": {"fail": {"reason": "no data"}}}})
    task = make_task()
    run = run_task(task)
    calls = len(world.control.calls())

    run_failure_callbacks(task, run.ti)
    run_failure_callbacks(task, TaskInstance("train"))

    assert run.xcoms["state"] == "Failed"
    assert len(world.control.calls()) == calls


@pytest.mark.parametrize(
    ("moment", "may_list"), [("before", True), ("after", True), ("after", False)]
)
def test_process_that_died_around_the_start(
    moment: str, may_list: bool, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The ARN is not known. The callback stops the execution that AWS lists, or that it
    returns for the stored request.
    """
    world.control.put_scenario(NEVER_ENDS)
    getattr(world.requests, moment)(START, crash)
    ti = run_to_crash(TaskInstance("train"))
    if not may_list:
        world.deny(LIST)

    run_failure_callbacks(make_task(), ti)

    assert world.log.statuses == ["Stopping"]
    assert caplog.messages[-1].endswith("Execution: its ARN is not known")


@pytest.mark.parametrize("key_is_configured", [True, False])
def test_mapped_task_of_a_dead_process(key_is_configured: bool, world: World) -> None:
    """
    The DAG processor has only the mapped task; the callback stops the execution of the
    map index that failed.
    """
    if not key_is_configured:
        world.patch.delenv("AIRFLOW__CORE__FERNET_KEY")
    with DAG("retraining") as dag:
        mapped: Any = PolysyncStartPipelineOperator.partial(
            task_id="train",
            polysync_conn_id="{{ 'polysync' }}_default",
            poll_interval=30,
        ).expand(pipeline_name=["abalone", "fanout"])
    if CAPABILITIES.task_sdk:
        # As Airflow serializes the DAG: the scheduler asks whether there is a callback
        # to run.
        assert mapped.has_on_failure_callback
    ti = crash_while_waiting(world.time, map_index=1)
    arn = ti.xcoms["execution_arn"]
    context: Any = {"ti": ti, "task": mapped, "dag": dag, "params": {}}
    context |= {"dag_run": SimpleNamespace(conf={}), "run_id": ti.run_id}
    context["expanded_ti_count"] = 2

    for callback in mapped.on_failure_callback:
        callback(context)

    (stop,) = world.control.calls(STOP)
    assert stop["request"]["PipelineExecutionArn"] == arn


def test_values_in_a_worker_are_not_rendered_again(world: World) -> None:
    """
    In a worker the templates are rendered. A second time, a text from outside would be
    taken for a template.
    """
    world.patch.delenv("AIRFLOW__CORE__FERNET_KEY")
    task = make_task()
    world.time.after(60, crash)
    ti = run_to_crash(TaskInstance("train"), task)
    task.current_run.try_runner.release(is_handled=False)

    def render_template(value: Any, context: Any) -> None:
        pytest.fail(f"rendered again: {value}")

    world.patch.setattr(task, "render_template", render_template)

    run_failure_callbacks(task, ti)

    assert len(world.control.calls(STOP)) == 1


def test_callbacks_of_the_dag_author_come_first() -> None:
    """From an argument, from ``default_args``, and of a mapped task; ours comes once."""

    def author_callback(context: Any) -> None:
        """A callback of the DAG's author."""

    operator = PolysyncStartPipelineOperator
    own = failure_callback.stop_orphaned_execution
    with DAG("by_default", default_args={"on_failure_callback": author_callback}):
        by_default: Any = operator(task_id="a", pipeline_name="fanout")
        given: Any = operator(
            task_id="b", pipeline_name="fanout", on_failure_callback=[author_callback]
        )
        mapped: Any = operator.partial(
            task_id="c", on_failure_callback=author_callback
        ).expand(pipeline_name=["abalone", "fanout"])
    unmapped = mapped.unmap({"pipeline_name": "fanout"})

    for task in (by_default, given, mapped, unmapped):
        assert task.on_failure_callback == [author_callback, own]


def test_callbacks_are_kept_as_airflow_2_passes_them_on() -> None:
    """
    Airflow 3 makes a list of whatever the DAG's author gives. Airflow 2 does not, and
    calls only lists.
    """
    own = failure_callback.stop_orphaned_execution
    for given in (crash, [crash], (crash,), [crash, own]):
        assert failure_callback.with_own_callback(given) == [crash, own]
    assert failure_callback.with_own_callback(None) == [own]
