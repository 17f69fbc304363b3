"""
The selected steps and their source in the record: what a later try sends, and what it
warns of.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS_ONCE,
    RETRY,
    START,
    CrashError,
    RequestInterceptor,
    calls,
    crash,
)

LIST = "ListPipelineExecutions"
LATEST = {"selected_steps": ["Merge"], "source_execution": "latest"}


@pytest.fixture
def source(emulator: EmulatorServer) -> str:
    """The ARN of an execution of all steps that has ended before the task starts."""
    return run_all(emulator)


def run_all(emulator: EmulatorServer) -> str:
    """Run all steps of the pipeline without the provider; return the ARN."""
    client: Any = PolysyncSageMakerHook().conn
    arn: str = client.start_pipeline_execution(PipelineName="fanout")[
        "PipelineExecutionArn"
    ]
    emulator.control.advance(24 * 3600)
    return arn


def test_next_try_sends_the_same_source(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    emulator: EmulatorServer,
    source: str,
) -> None:
    """
    The record has the ARN: after a crash, the request is the same, although there is a
    newer execution.
    """
    task, sent = make_task(**LATEST), list[Any]()
    interceptor.before(START, crash)
    interceptor.before(START, sent.append)
    assert isinstance(task.next_try().error, CrashError)
    assert task.last_record["request"]["source_execution"] == source
    emulator.control.clear_calls()
    newer = run_all(emulator)
    emulator.control.clear_calls()

    run = task.next_try()

    (call,) = emulator.control.calls(START)
    assert run.error is None
    assert (
        call["request"]["SelectiveExecutionConfig"]["SourcePipelineExecutionArn"]
        == source
        != newer
    )
    assert run.xcoms["run"]["source_execution"] == source


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({}, None),
        ({"selected_steps": ["Shard0", "Merge"]}, "selected_steps"),
        ({"source_execution": None}, "source"),
    ],
)
def test_resume_keeps_the_selection(
    changes: dict[str, Any],
    unused: str | None,
    make_task: MakeTask,
    emulator: EmulatorServer,
    source: str,
) -> None:
    """
    The ARN that ``latest`` was at the start is no change of the author's; another
    selection is.
    """
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(**LATEST, retry_mode="resume")
    task.next_try()
    emulator.control.clear_calls()

    with capture_logs() as logs:
        run = task.next_try(**changes)

    lines = [entry["event"] % entry.get("positional_args", ()) for entry in logs]
    warnings = [line for line in lines if "have other values now" in line]
    assert run.error is None
    assert len(calls(emulator, RETRY)) == 1
    assert calls(emulator, START, LIST) == []
    assert (
        run.xcoms["run"]["selected_steps"],
        run.xcoms["run"]["source_execution"],
    ) == (["Merge"], source)
    assert [unused in line for line in warnings if unused] == ([True] if unused else [])
    assert len(warnings) == (1 if unused else 0)
