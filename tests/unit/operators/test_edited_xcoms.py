"""
XComs that somebody has edited: a succeeded task still succeeds, and a failed one ends
with its own error.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.records import RECORD_KEY
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.operators.recovery.harness import CrashError, crash
from tests.world import World

EDITED: list[Any] = [
    "a text",
    {},
    {"execution_arn": "foo", "state": "Running"},
    {"parameters": ["x"]},
]


@pytest.mark.parametrize("value", EDITED, ids=str)
def test_task_succeeds_with_an_edited_run(
    value: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The XCom ``run`` is replaced by a text or another object during the wait; at the end
    it is right again.
    """
    ti = TaskInstance("t")
    monkeypatch.setattr(ti, "xcom_pull", lambda **_: value)

    run = run_task(
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"), ti
    )

    assert run.error is None
    assert run.xcoms["run"]["execution_arn"] == run.result
    assert run.xcoms["run"]["state"] == "Success"


def unfinished_task(emulated_time: EmulatedTime) -> TaskInstance:
    """Return a task instance whose process has died while its execution runs."""
    ti = TaskInstance("t")
    emulated_time.after(60, crash)
    with pytest.raises(CrashError):
        run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"), ti)
    return ti


def call_failure_callback(ti: TaskInstance) -> None:
    """Call the failure callback as the DAG processor does."""
    task = PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout")
    stop_orphaned_execution({"ti": ti, "task": task})  # type: ignore[typeddict-item]


ANOTHER = (
    "arn:aws:sagemaker:us-east-1:123456789012:pipeline/abalone/execution/abcdefghijkl"
)


@pytest.mark.parametrize(
    "edit",
    [
        *(lambda _, value=value: value for value in EDITED),
        lambda record: {**record, "execution_arn": ANOTHER},
        lambda record: {
            **record,
            "execution_arn": None,
            "request": {**record["request"], "pipeline_name": "abalone"},
        },
        lambda record: {
            name: value for name, value in record.items() if name != "signature"
        },
        lambda record: {**record, "try_number": 0},
    ],
)
def test_failure_callback_believes_only_the_task_itself(
    edit: Any, world: World
) -> None:
    """
    The failure callback calls AWS only for a record that the failed try has signed.
    """
    ti = unfinished_task(world.time)
    ti.store.set(RECORD_KEY, edit(ti.store.get(RECORD_KEY)))
    world.control.clear_calls()

    call_failure_callback(ti)

    assert world.control.calls() == []
