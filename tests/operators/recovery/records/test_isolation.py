"""Isolation: each task instance has its own execution, even if pipeline and parameters are the same."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.operators.recovery.harness import START, ExecutionLog, Task, tokens
from tests.tasks import EmulatedTime

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
    """Tasks that start the same pipeline with the same parameters; each has a record of its own."""
    return [Task(True, {"pipeline_parameters": {"Shards": 4}}, **key) for key in SIMILAR_TASKS]


def test_each_task_instance_has_its_own_execution(
    similar_tasks: list[Task], execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Each task instance has its own execution, client token, display name and result."""
    runs = [task.next_try() for task in similar_tasks]

    assert [run.error for run in runs] == [None] * len(similar_tasks)
    assert sorted(run.result for run in runs) == sorted(execution_log.arns)
    assert len(set(execution_log.arns)) == len(set(tokens(emulator, START))) == len(similar_tasks)
    names = {call["request"]["PipelineExecutionDisplayName"] for call in emulator.control.calls(START)}
    assert len(names) == len(similar_tasks)
