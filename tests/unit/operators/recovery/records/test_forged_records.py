"""
A record that nobody can prove, because it was edited, copied or invented, or because
the key was rotated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    PipelineExecutionTimeoutError,
    PolysyncError,
    StoredRecordError,
)
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.records import RECORD_KEY
from sagemaker_emulator import EmulatorServer
from tests.tasks import DagRun, EmulatedTime
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    CHANGES,
    MERGE_FAILS_ONCE,
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
)

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
ANOTHER_ARN = (
    "arn:aws:sagemaker:us-east-1:123456789012:pipeline/{}/execution/abcdefghijkl"
)
KEY_A, KEY_B = "A" * 43 + "=", "B" * 42 + "A="
ROLE = "arn:aws:iam::123456789012:role/admin"
# What an editor wants, by what the edit changes: values of the record, or of its
# request.
EDITS: dict[str, dict[str, Any]] = {
    "adopts or stops another execution of the pipeline": {
        "execution_arn": ANOTHER_ARN.format("fanout")
    },
    "starts another pipeline": {"execution_arn": None, "pipeline_name": "abalone"},
    "sends a role": {"execution_arn": None, "execution_role_arn": ROLE},
    "chooses what the clear does": {"clear_choice": {"on_clear": "resume"}},
}


def edited(record: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the record with changed values, of the record itself or of its request."""
    of_request = {k: v for k, v in changes.items() if k in StartRequest.model_fields}
    of_record = {k: v for k, v in changes.items() if k in ExecutionRecord.model_fields}
    assert len(of_request) + len(of_record) == len(changes)
    return {**record, **of_record, "request": {**record["request"], **of_request}}


def crash_while_waiting(task: Task, clock: EmulatedTime) -> dict[str, Any]:
    """Let a try crash while it waits; return its record."""
    clock.after(100, crash)
    task.next_try()
    return dict(task.last_record)


def assert_not_used(
    task: Task, record: Any, log: pytest.LogCaptureFixture, reason: str
) -> None:
    """
    Assert that a retry with this record says why it is not used, and reattaches to the
    task's own execution.
    """
    task.store.set(RECORD_KEY, record)

    assert task.next_try().error is None
    assert reason in log.text


@pytest.mark.parametrize(
    ("edit", "clear"),
    [
        *((each, False) for each in EDITS),
        ("adopts or stops another execution of the pipeline", True),
    ],
)
def test_edited_record(
    edit: str,
    clear: bool,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Whatever is changed in the record, its signature no longer fits, and the task goes
    on with its own execution.
    """
    task = make_task()
    record = crash_while_waiting(task, emulated_time)
    emulator.control.clear_calls()
    if clear:
        task.clear()

    assert_not_used(
        task,
        edited(record, EDITS[edit]),
        caplog,
        "its signature is not that of this task",
    )

    assert calls(emulator, *CHANGES) == ([STOP, START] if clear else [])
    assert execution_log.statuses == (
        ["Stopped", "Succeeded"] if clear else ["Succeeded"]
    )
    assert {record.request["PipelineName"] for record in execution_log.executions} == {
        "fanout"
    }


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "another"},
        {"run_id": "manual__2026-01-02T00:00:00+00:00"},
        {"task_id": "another"},
        {"map_index": 3},
    ],
    ids=lambda other: next(iter(other)),
)
def test_record_of_another_task(
    other: dict[str, Any],
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A genuine record of another task's running execution: nothing is started beside it,
    and it is not stopped.
    """
    record = crash_while_waiting(Task(make_task().deferrable, **other), emulated_time)
    emulator.control.clear_calls()
    task = make_task()
    task.store.set(RECORD_KEY, record)

    run = task.next_try()

    assert isinstance(run.error, StoredRecordError)
    assert run.error.permanent
    assert "copied it from another task" in str(run.error)
    assert calls(emulator, *CHANGES) == []
    assert execution_log.statuses == ["Executing"]
    assert task.record == record, "a user needs it to find the execution"


@pytest.mark.parametrize("signature", [None, 7, "\ud800", "0" * 64], ids=ascii)
def test_invalid_signature(
    signature: Any,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Something else in place of the signature is no proof, and no error."""
    task = Task()
    record = crash_while_waiting(task, emulated_time)

    assert_not_used(task, {**record, "signature": signature}, caplog, "is not proven")


@pytest.mark.parametrize(
    ("clear", "fails"),
    [(True, False), (False, True)],
    ids=["clear, running", "retry, failed"],
)
def test_key_rotation(
    clear: bool,
    fails: bool,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    After the three steps of a rotation, a clear a day later finds what it stops or
    resumes, as does a retry.
    """
    monkeypatch.setenv(FERNET_KEY, KEY_A)
    task = make_task(retry_mode="resume", on_clear="resume")
    if fails:
        emulator.control.put_scenario(MERGE_FAILS_ONCE)
        task.next_try()
    else:
        crash_while_waiting(task, emulated_time)
    monkeypatch.setenv(FERNET_KEY, KEY_B)
    if clear:
        task.clear()
        task.dag_run = DagRun(datetime(2026, 1, 5, tzinfo=UTC), clear_number=1)

    run = task.next_try()

    assert run.error is None
    assert "[core] fernet_key was rotated" in caplog.text
    assert execution_log.statuses == (
        ["Stopped", "Succeeded"] if clear and not fails else ["Succeeded"]
    )
    assert execution_log.max_concurrent == 1


def test_key_behind_the_new_one_proves_records(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """During a rotation, records of both keys are genuine."""
    task = make_task()
    monkeypatch.setenv(FERNET_KEY, KEY_A)
    crash_while_waiting(task, emulated_time)
    monkeypatch.setenv(FERNET_KEY, f"{KEY_B}, {KEY_A}")

    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]
    assert "is not proven" not in caplog.text


def test_deferred_execution_is_stopped_after_a_key_rotation(
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Neither the record nor its copy is proven when the timeout has passed, but AWS says
    whose execution it is.
    """
    monkeypatch.setenv(FERNET_KEY, KEY_A)
    emulator.control.put_scenario(NEVER_ENDS)
    task = Task(True, {"timeout": 1000})
    emulated_time.after(500, lambda: monkeypatch.setenv(FERNET_KEY, KEY_B))

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert execution_log.statuses == ["Stopped"]


def without_signature(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as a deployment without a key writes it."""
    return {name: value for name, value in record.items() if name != "signature"}


def test_record_without_a_signature(
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Removing it is an edit like others; a host without a key writes none."""
    task = make_task()
    record = crash_while_waiting(task, emulated_time)

    reason = "it has no signature. Somebody edited it, or [core] fernet_key was not set"
    assert_not_used(task, without_signature(record), caplog, reason)


def test_record_without_a_signature_is_continued_without_a_key(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The retry reattaches: such a deployment can prove nothing."""
    monkeypatch.delenv(FERNET_KEY)
    task = make_task()
    record = without_signature(crash_while_waiting(task, emulated_time))
    emulator.control.clear_calls()
    task.store.set(RECORD_KEY, record)

    assert task.next_try().error is None
    assert calls(emulator, *CHANGES) == []
    assert execution_log.statuses == ["Succeeded"]
    assert "is not proven" not in caplog.text


def test_nothing_starts_with_a_key_that_cannot_be_used(
    make_task: MakeTask, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A wrong key is a mistake of the deployment; without the error, its records would
    have no signature.
    """
    monkeypatch.setenv(FERNET_KEY, "a passphrase")
    task = make_task()

    run = task.next_try()

    assert isinstance(run.error, PolysyncError)
    assert "[core] fernet_key is set, but cannot be used" in str(run.error)
    assert calls(emulator, *CHANGES) == []


def test_signed_record_of_a_running_task_needs_no_further_call(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    With a key, the proof costs no call to AWS. Only AWS knows the parameters of the
    execution.
    """
    task = make_task()
    crash_while_waiting(task, emulated_time)
    emulator.control.clear_calls()

    assert task.next_try().error is None
    steps = {
        "DescribePipelineDefinitionForExecution",
        "ListPipelineExecutionSteps",
        "DescribeProcessingJob",
    }
    others = {
        "DescribePipelineExecution",
        "ListPipelineExecutions",
        "ListPipelineParametersForExecution",
    }
    assert set(calls(emulator)) <= {*others, *steps}
