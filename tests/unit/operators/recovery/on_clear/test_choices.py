"""
What a user chose in the tab for a clear: it takes the place of ``on_clear``, for this
clear only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.execution.lifecycle.instructions import ClearChoice
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.records import RECORD_KEY, from_stored, to_stored
from sagemaker_emulator import EmulatorServer
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    LIST_STEPS,
    MERGE_FAILS,
    RETRY,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
)


def choose(task: Task, on_clear: OnClear) -> None:
    """Store a choice, as the API server does for the tab."""
    record = from_stored(task.last_record, task.key, place="")
    chosen = record.model_copy(update={"clear_choice": ClearChoice(on_clear=on_clear)})
    task.store.set(RECORD_KEY, to_stored(chosen, task.key))


def fail(task: Task, emulator: EmulatorServer, scenario: dict[str, Any]) -> None:
    """Let a try fail, and forget the calls."""
    emulator.control.put_scenario(scenario)
    assert "AlgorithmError" in str(task.next_try().error)
    emulator.control.clear_calls()


def test_choice_takes_the_place_of_on_clear_once(
    make_task: MakeTask, emulator: EmulatorServer
) -> None:
    """The next clear does again what the DAG says."""
    for on_clear, choice, does in (
        ("new", "resume", [RETRY]),
        ("resume", "new", [START]),
    ):
        emulator.control.reset()
        task = make_task(on_clear=on_clear, retries=0)
        task.run_id = f"manual__{on_clear}"
        fail(task, emulator, MERGE_FAILS)
        choose(task, choice)  # type: ignore[arg-type]

        task.clear()
        assert task.next_try().error

        assert calls(emulator, START, RETRY, STOP) == does
        assert "clear_choice" not in task.last_record
        emulator.control.clear_calls()
        task.clear()
        assert task.next_try().error
        assert calls(emulator, START, RETRY, STOP) == (
            [START] if on_clear == "new" else [RETRY]
        )


@pytest.mark.parametrize("is_refused", [False, True])
def test_choice_survives_the_end_of_the_killed_process(
    is_refused: bool,
    make_task: MakeTask,
    emulator: EmulatorServer,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
) -> None:
    """
    A user marks the task as failed and chooses, while its process is still on its way
    to the stop.
    """
    task = make_task(retries=0, on_clear="resume", progress_interval=90)
    if is_refused:
        emulator.control.add_fault(
            "error", STOP, code="AccessDeniedException", message="not you"
        )

    def kill(_: Any) -> None:
        task.state = "failed"
        choose(task, "new")
        task.kill()

    interceptor.after(LIST_STEPS, kill)
    task.next_try()

    assert task.last_record["clear_choice"] == {"on_clear": "new"}
    assert task.last_record.get("stop_requested_by") == (None if is_refused else 1)
    assert len(calls(emulator, STOP)) == 1
    if not is_refused:
        assert execution_log.statuses[-1] in ("Stopping", "Stopped")


def test_choice_of_a_deleted_dag_run_is_gone(
    make_task: MakeTask, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Also if the process of the new one is killed before it could write, and stores its
    stop.
    """
    task = make_task(retries=0)
    fail(task, emulator, MERGE_FAILS)
    choose(task, "resume")
    task.delete()
    task.create_again(datetime(2026, 2, 2, tzinfo=UTC))
    is_current, kills = task_instances.is_current, [task.kill]

    def kill_before_the_answer(ti: Any) -> bool:
        if kills:
            kills.pop()()
        return is_current(ti)

    monkeypatch.setattr(task_instances, "is_current", kill_before_the_answer)
    task.next_try()

    assert task.last_record["stop_requested_by"] == 1
    assert "clear_choice" not in task.last_record
