"""An execution whose task's process died for good is stopped by the callback that Airflow has run elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.tasks import EmulatedTime, TaskInstance, run_task


class DiedError(BaseException):
    """The process is gone; nothing of the operator's runs after it."""


def die() -> None:
    """Die."""
    raise DiedError


def train(**arguments: Any) -> Any:
    """Return the task as the DAG processor has it: in its DAG, its templates not rendered."""
    with DAG("retraining"):
        return PolysyncStartPipelineOperator(
            **{"task_id": "train", "pipeline_name": "fanout", "poll_interval": 30, **arguments}
        )


def left_by_a_dead_process(clock: EmulatedTime) -> TaskInstance:
    """Let a synchronous wait die after a minute."""
    clock.after(60, die)
    ti = TaskInstance("train")
    with pytest.raises(DiedError):
        run_task(train(), ti)
    return ti


def call_back(task: Any, ti: TaskInstance) -> None:
    """Do what Airflow's DAG processor does for a task that failed without a word."""
    for callback in task.on_failure_callback:
        callback({"ti": ti, "task": task, "dag": task.dag, "params": {}})


def test_what_a_dead_process_left_is_stopped(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """The callback finds the execution by the task's XCom, its connection unrendered, and stops it once."""
    ti = left_by_a_dead_process(emulated_time)
    task = train(polysync_conn_id="{{ 'polysync' }}_default")
    assert emulator.control.calls("StopPipelineExecution") == []

    call_back(task, ti)
    call_back(task, ti)

    calls = emulator.control.calls("StopPipelineExecution")
    assert {call["request"]["PipelineExecutionArn"] for call in calls} == {ti.xcoms["execution_arn"]}
    assert len({call["request"]["ClientRequestToken"] for call in calls}) == 1


def test_it_is_left_running_if_told_so(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """``stop_on_kill=False`` holds for this way out too."""
    call_back(train(stop_on_kill=False), left_by_a_dead_process(emulated_time))

    assert emulator.control.calls("StopPipelineExecution") == []


def test_after_an_ordinary_failure_there_is_nothing_to_do(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The callback runs after every failure; an execution that ended, or never began, needs no stop."""
    emulator.control.put_scenario({"steps": {"Shard1": {"fail": {"reason": "no data"}}}})
    task = train()
    run = run_task(task)
    calls = len(emulator.control.calls())

    call_back(task, run.ti)
    call_back(task, TaskInstance("train"))

    assert run.xcoms["state"] == "Failed"
    assert len(emulator.control.calls()) == calls


def test_the_authors_own_callbacks_are_kept() -> None:
    """Ours is added to those that the DAG's author gives, by argument or by default."""

    def mine(context: Any) -> None:
        """Tell the author's people."""

    with DAG("retraining", default_args={"on_failure_callback": mine}):
        by_default: Any = PolysyncStartPipelineOperator(task_id="a", pipeline_name="fanout")
        given: Any = PolysyncStartPipelineOperator(
            task_id="b", pipeline_name="fanout", on_failure_callback=[mine]
        )

    assert [by_default.on_failure_callback[0], given.on_failure_callback[0]] == [mine, mine]
    assert len(by_default.on_failure_callback) == len(given.on_failure_callback) == 2


def test_what_the_task_has_stopped_itself_is_not_stopped_again(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A task whose time is up leaves an execution that is still stopping; that was seen to."""
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    task = train(timeout=3600)
    run = run_task(task)

    call_back(task, run.ti)

    assert run.xcoms["state"] == "Running"
    assert len(emulator.control.calls("StopPipelineExecution")) == 1
