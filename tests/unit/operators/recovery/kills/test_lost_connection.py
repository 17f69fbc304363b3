"""
A connection that is deleted while tasks wait with it: an ordinary failure, which uses
the task's retries.
"""

from __future__ import annotations

import os

import pytest

from polysync_airflow.exceptions import CredentialsError
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import STOP, ExecutionLog, calls

VARIABLE = "AIRFLOW_CONN_POLYSYNC_DEFAULT"


@pytest.fixture
def lose_connection(
    monkeypatch: pytest.MonkeyPatch, emulated_time: EmulatedTime
) -> str:
    """Delete the connection after 100 s; return its value."""
    value = os.environ[VARIABLE]
    emulated_time.after(100, lambda: monkeypatch.delenv(VARIABLE))
    return value


@IN_BOTH_MODES
def test_retry_continues_after_a_minute_without_the_connection(
    make_task: MakeTask,
    deferrable: bool,
    lose_connection: str,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A deferred task fails with retries left, and its retry waits for the same execution.
    A worker reads no more.
    """
    task = make_task(retries=2)

    first = task.next_try()

    if not deferrable:
        assert (first.error, task.state) == (None, "success")
        return
    assert isinstance(first.error, CredentialsError)
    assert not first.error.permanent
    assert task.state == "up_for_retry"
    assert "The next try continues with the execution." in str(first.error)
    assert "Next: Airflow retries the task in 5 min." in str(first.error)
    second = task.next_try()
    assert "there is no such connection" in str(second.error)
    assert task.state == "up_for_retry"
    monkeypatch.setenv(VARIABLE, lose_connection)
    assert task.next_try().error is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Succeeded"]
