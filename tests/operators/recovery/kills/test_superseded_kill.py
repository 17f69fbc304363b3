"""``on_kill`` on a worker that was disconnected: a later try may have reattached to the execution."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PipelineExecutionCancelledError
from polysync_airflow.operators import on_kill
from tests.operators.recovery.harness import (
    STOP,
    ExecutionLog,
    Task,
    calls,
)
from tests.tasks import EmulatedTime


def test_kill_of_a_superseded_try_stops_nothing(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A process that no longer finds its record stops nothing, as a later try has the execution."""
    task = Task(deferrable=False)

    def reconnect_and_kill() -> None:
        task.store.values.clear()
        task.operator.on_kill()

    emulated_time.after(200, reconnect_and_kill)

    run = task.next_try()

    assert run.xcoms["state"] == "Success"
    assert calls(emulator, STOP) == []


@pytest.mark.parametrize("failure", ["fails", "hangs"])
def test_kill_stops_the_execution_if_the_store_cannot_be_read(
    failure: str,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the store cannot say whether a later try has the execution, the killed task stops the execution."""
    monkeypatch.setattr(on_kill, "SUPERSEDED_CHECK_TIMEOUT_SECONDS", 0.2)
    test_ended = threading.Event()
    task = Task(deferrable=False)

    def broken_get(key: str, default: Any = None) -> Any:
        if failure == "fails":
            raise ConnectionError("no API server")
        test_ended.wait(30)

    def kill_without_store() -> None:
        task.store.get = broken_get  # type: ignore[method-assign]
        task.operator.on_kill()

    emulated_time.after(200, kill_without_store)

    run = task.next_try()
    test_ended.set()

    assert isinstance(run.error, PipelineExecutionCancelledError)
    assert execution_log.statuses == ["Stopped"]
