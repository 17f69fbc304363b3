"""XComs that somebody has edited: a succeeded task still succeeds, and a failed one ends with its own error."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from tests.tasks import EmulatedTime, TaskInstance, run_task

EDITED: list[Any] = [
    "a text",
    5,
    ["x"],
    {},
    {"execution_arn": "foo", "state": "Running"},
    {"execution_arn": None},
    {"parameters": ["x"]},
]


@pytest.mark.parametrize("value", EDITED, ids=str)
def test_task_succeeds_with_an_edited_run(
    value: Any, emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XCom ``run`` is replaced by a text or another object during the wait; at the end it is right again."""
    ti = TaskInstance("t")
    monkeypatch.setattr(ti, "xcom_pull", lambda **_: value)

    run = run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"), ti)

    assert run.error is None
    assert run.xcoms["run"]["execution_arn"] == run.result
    assert run.xcoms["run"]["state"] == "Success"


@pytest.mark.parametrize("value", EDITED, ids=str)
def test_failure_callback_stops_nothing_that_is_no_record(
    value: Any, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure callback calls AWS only for a valid record."""
    ti = TaskInstance("t")
    monkeypatch.setattr(ti, "xcom_pull", lambda **_: value)
    task = PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout")

    stop_orphaned_execution({"ti": ti, "task": task})  # type: ignore[typeddict-item]

    assert emulator.control.calls() == []
