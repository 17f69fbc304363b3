"""The failure callback stops the execution of a task whose process has died."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.tasks import EmulatedTime, TaskInstance, run_task


class CrashError(BaseException):
    """Simulates that the process ends at once; no further code of the operator runs."""


def crash() -> None:
    """End the process at once."""
    raise CrashError


def make_task(**arguments: Any) -> Any:
    """Return the task as the DAG processor has it: in its DAG, with templates that are not rendered."""
    with DAG("retraining"):
        return PolysyncStartPipelineOperator(
            **{"task_id": "train", "pipeline_name": "fanout", "poll_interval": 30, **arguments}
        )


def crash_while_waiting(clock: EmulatedTime) -> TaskInstance:
    """Let a task crash after it has waited on the worker for a minute; return its task instance."""
    clock.after(60, crash)
    ti = TaskInstance("train")
    with pytest.raises(CrashError):
        run_task(make_task(), ti)
    return ti


def run_failure_callbacks(task: Any, ti: TaskInstance) -> None:
    """Run the failure callbacks, as Airflow's DAG processor does for a task whose process has died."""
    for callback in task.on_failure_callback:
        callback({"ti": ti, "task": task, "dag": task.dag, "params": {}})


def test_execution_of_a_dead_process_is_stopped(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The callback finds the execution by the XCom ``run``, renders the connection id, and stops it once."""
    ti = crash_while_waiting(emulated_time)
    task = make_task(polysync_conn_id="{{ 'polysync' }}_default")
    assert emulator.control.calls("StopPipelineExecution") == []

    run_failure_callbacks(task, ti)
    run_failure_callbacks(task, ti)

    calls = emulator.control.calls("StopPipelineExecution")
    assert {call["request"]["PipelineExecutionArn"] for call in calls} == {ti.xcoms["execution_arn"]}
    assert len({call["request"]["ClientRequestToken"] for call in calls}) == 1


def test_stop_on_kill_false_keeps_the_execution(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With ``stop_on_kill=False`` the callback stops nothing."""
    run_failure_callbacks(make_task(stop_on_kill=False), crash_while_waiting(emulated_time))

    assert emulator.control.calls("StopPipelineExecution") == []


def test_callback_does_nothing_after_an_ordinary_failure(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The callback runs after every failure; an execution that has ended or never started needs no stop."""
    emulator.control.put_scenario({"steps": {"Shard1": {"fail": {"reason": "no data"}}}})
    task = make_task()
    run = run_task(task)
    calls = len(emulator.control.calls())

    run_failure_callbacks(task, run.ti)
    run_failure_callbacks(task, TaskInstance("train"))

    assert run.xcoms["state"] == "Failed"
    assert len(emulator.control.calls()) == calls


def test_callbacks_of_the_dag_author_are_kept() -> None:
    """The callback is added to those of the DAG's author, from an argument or from ``default_args``."""

    def author_callback(context: Any) -> None:
        """A callback of the DAG's author."""

    with DAG("retraining", default_args={"on_failure_callback": author_callback}):
        by_default: Any = PolysyncStartPipelineOperator(task_id="a", pipeline_name="fanout")
        given: Any = PolysyncStartPipelineOperator(
            task_id="b", pipeline_name="fanout", on_failure_callback=[author_callback]
        )

    assert [by_default.on_failure_callback[0], given.on_failure_callback[0]] == [
        author_callback,
        author_callback,
    ]
    assert len(by_default.on_failure_callback) == len(given.on_failure_callback) == 2


def test_execution_stopped_by_the_task_is_not_stopped_again(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """After a timeout the task itself has requested the stop, so the callback requests none."""
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    task = make_task(timeout=3600)
    run = run_task(task)

    run_failure_callbacks(task, run.ti)

    assert run.xcoms["state"] == "Running"
    assert len(emulator.control.calls("StopPipelineExecution")) == 1
