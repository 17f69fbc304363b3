"""
Isolation: each task instance has its own execution, even if pipeline and parameters are
the same.
"""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.harness import (
    NEVER_ENDS,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    crash,
    tokens,
)

# Each differs in one property from the first.
SIMILAR_TASKS: list[dict[str, Any]] = [
    {},
    {"map_index": 0},
    {"task_id": "north.train"},
    {"run_id": "backfill__2026-01-01T00:00:00+00:00"},
    {"dag_id": "retraining_copy"},
]


@pytest.fixture
def similar_tasks(emulated_time: EmulatedTime) -> list[Task]:
    """
    Tasks that start the same pipeline with the same parameters; each has a record of
    its own.
    """
    return [
        Task(True, {"pipeline_parameters": {"Shards": 4}}, **key)
        for key in SIMILAR_TASKS
    ]


def test_each_task_instance_has_its_own_execution(
    similar_tasks: list[Task], execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    Each task instance has its own execution, client token, display name and result.
    """
    runs = [task.next_try() for task in similar_tasks]

    assert [run.error for run in runs] == [None] * len(similar_tasks)
    assert sorted(run.result for run in runs) == sorted(execution_log.arns)
    assert (
        len(set(execution_log.arns))
        == len(set(tokens(emulator, START)))
        == len(similar_tasks)
    )
    names = {
        call["request"]["PipelineExecutionDisplayName"]
        for call in emulator.control.calls(START)
    }
    assert len(names) == len(similar_tasks)


def test_each_task_instance_reattaches_to_its_own_execution(
    similar_tasks: list[Task],
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    After a host crash during the starts of all tasks, each next try reattaches to its
    own execution.
    """
    for task in similar_tasks:
        interceptor.after(START, crash)
        assert isinstance(task.next_try().error, CrashError)
    started = execution_log.arns

    runs = [task.next_try() for task in reversed(similar_tasks)]

    assert [run.error for run in runs] == [None] * len(similar_tasks)
    start_tokens = {
        call["request"]["ClientRequestToken"] for call in emulator.control.calls(START)
    }
    assert len(start_tokens) == len(similar_tasks)
    assert sorted(run.result for run in runs) == sorted(started)
    by_token = {
        record.request["ClientRequestToken"]: record.arn
        for record in execution_log.executions
    }
    assert [task.last_record["execution_arn"] for task in similar_tasks] == [
        by_token[task.last_record["request"]["client_request_token"]]
        for task in similar_tasks
    ]


def test_clear_of_one_task_does_not_affect_the_others(
    similar_tasks: list[Task],
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Only the execution of the cleared task is stopped and replaced."""
    for task in similar_tasks:
        emulated_time.after(50, crash)
        task.next_try()
    others = [task.last_record["execution_arn"] for task in similar_tasks[1:]]
    similar_tasks[0].clear()

    similar_tasks[0].next_try()
    runs = [task.next_try() for task in similar_tasks[1:]]

    assert [run.result for run in runs] == others
    stopped = {
        call["request"]["PipelineExecutionArn"] for call in emulator.control.calls(STOP)
    }
    assert len(stopped) == 1
    assert stopped.isdisjoint(others)


def test_timeout_of_one_task_does_not_stop_the_others(
    similar_tasks: list[Task], execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """The stop after a timeout stops one execution only."""
    emulator.control.put_scenario(NEVER_ENDS)
    similar_tasks[0].arguments["timeout"] = 1000
    for task in similar_tasks[1:]:
        task.next_try(wait_for_completion=False)

    similar_tasks[0].next_try()
    emulator.control.advance(60)

    assert sorted(execution_log.statuses) == ["Executing"] * (
        len(similar_tasks) - 1
    ) + ["Stopped"]
    assert len(tokens(emulator, STOP)) == 1
