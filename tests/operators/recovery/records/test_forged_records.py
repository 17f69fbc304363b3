"""A record that somebody edited, copied or invented: nothing is started, stopped, resumed or continued."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.records.proof import RECORD_KEY
from tests.operators.recovery.conftest import IN_ONE_MODE, MakeTask
from tests.operators.recovery.harness import CHANGES, ExecutionLog, RequestInterceptor, Task, calls, crash
from tests.tasks import EmulatedTime

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
ACCEPT_UNSIGNED = "AIRFLOW__POLYSYNC_SAGEMAKER__ACCEPT_UNSIGNED_RECORDS"
ANOTHER_ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/{}/execution/abcdefghijkl"
ROLE = "arn:aws:iam::123456789012:role/admin"
# What an editor wants, by what the edit changes: values of the record, or of its request.
EDITS: dict[str, dict[str, Any]] = {
    "adopts or stops another execution of the pipeline": {"execution_arn": ANOTHER_ARN.format("fanout")},
    "adopts or stops another pipeline's execution": {"execution_arn": ANOTHER_ARN.format("abalone")},
    "starts another pipeline": {"execution_arn": None, "pipeline_name": "abalone"},
    "sends a role": {"execution_arn": None, "execution_role_arn": ROLE},
    "sends other parameters": {"execution_arn": None, "pipeline_parameters": {"Shards": "100"}},
    "begins a new epoch": {"epoch": 0},
    "claims an own stop": {"stop_requested_by": 0},
    "chooses what the clear does": {"clear_choice": {"on_clear": "resume"}},
    "resumes": {"resumes": 1, "resume_token": "polysync-11111111-1111-4111-8111-111111111111"},
}


def edited(record: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the record with changed values, of the record itself or of its request."""
    of_request = {k: v for k, v in changes.items() if k in StartRequest.model_fields}
    of_record = {k: v for k, v in changes.items() if k in StoredExecution.model_fields}
    assert len(of_request) + len(of_record) == len(changes)
    return {**record, **of_record, "request": {**record["request"], **of_request}}


def crash_while_waiting(task: Task, clock: EmulatedTime) -> dict[str, Any]:
    """Let a try crash while it waits; return its record."""
    clock.after(100, crash)
    task.next_try()
    return dict(task.record)


def assert_refused(task: Task, record: Any, emulator: EmulatorServer, reason: str) -> None:
    """Assert that a try with this record fails for a reason, and changes nothing in AWS."""
    task.store.set(RECORD_KEY, record)
    emulator.control.clear_calls()

    run = task.next_try()

    assert isinstance(run.error, StoredRecordError)
    assert reason in str(run.error)
    assert run.error.permanent
    assert calls(emulator, *CHANGES) == []
    assert task.record == record


@IN_ONE_MODE
@pytest.mark.parametrize("clear", [False, True], ids=["retry", "clear"])
@pytest.mark.parametrize("changes", EDITS.values(), ids=EDITS)
def test_edited_record(
    changes: dict[str, Any],
    clear: bool,
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Whatever is changed in the record, its signature no longer fits."""
    task = make_task()
    record = crash_while_waiting(task, emulated_time)
    if clear:
        task.clear()

    assert_refused(task, edited(record, changes), emulator, "its signature is not that of this task")


@IN_ONE_MODE
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
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A genuine record that was copied from another task instance is refused."""
    record = crash_while_waiting(Task(make_task().deferrable, **other), emulated_time)

    assert_refused(make_task(), record, emulator, "copied it from another task")


@pytest.mark.parametrize("signature", [None, "", 7, [], "é" * 64, "\ud800", "0" * 64], ids=ascii)
def test_invalid_signature(signature: Any, emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """Something else in place of the signature is no proof, and no other error."""
    task = Task()
    record = crash_while_waiting(task, emulated_time)

    assert_refused(task, {**record, "signature": signature}, emulator, "is not proven")


def test_record_of_a_host_with_another_key(
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the key, since a deployment whose hosts have different keys sees it too."""
    task = make_task()
    record = crash_while_waiting(task, emulated_time)
    monkeypatch.setenv(FERNET_KEY, "A" * 43 + "=")

    assert_refused(task, record, emulator, "another [core] fernet_key than this host")


def test_key_rotation(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as the old key is configured behind the new one, records that it signed are genuine."""
    task = make_task()
    monkeypatch.setenv(FERNET_KEY, "A" * 43 + "=")
    crash_while_waiting(task, emulated_time)
    monkeypatch.setenv(FERNET_KEY, f"{'B' * 42}A=, {'A' * 43}=")

    assert task.next_try().error is None
    assert execution_log.statuses == ["Succeeded"]


def without_signature(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record as an earlier version wrote it, or a deployment without a key writes it."""
    return {name: value for name, value in record.items() if name != "signature"}


def test_record_without_a_signature(
    make_task: MakeTask, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Removing the signature is an edit like others; the error names the option for an upgrade."""
    task = make_task()
    record = crash_while_waiting(task, emulated_time)

    assert_refused(
        task, without_signature(record), emulator, "set [polysync_sagemaker] accept_unsigned_records = True"
    )


@pytest.mark.parametrize("because", ["of the option", "no key is configured"])
def test_record_without_a_signature_is_continued(
    because: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record of an earlier version, or of a deployment without a key: the retry reattaches."""
    if because == "of the option":
        monkeypatch.setenv(ACCEPT_UNSIGNED, "True")
    else:
        monkeypatch.delenv(FERNET_KEY)
    task = make_task()
    record = without_signature(crash_while_waiting(task, emulated_time))

    assert_refused(task, {**record, "epoch": "two"}, emulator, "is damaged (epoch")
    task.store.set(RECORD_KEY, record)

    assert task.next_try().error is None
    assert calls(emulator, *CHANGES) == []
    assert execution_log.statuses == ["Succeeded"]


def test_option_does_not_excuse_a_wrong_signature(
    make_task: MakeTask,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The option is about records that no version has signed, not about records that were edited."""
    monkeypatch.setenv(ACCEPT_UNSIGNED, "True")
    task = make_task()
    record = crash_while_waiting(task, emulated_time)

    assert_refused(task, {**record, "epoch": 7}, emulator, "its signature is not that of this task")


def test_nothing_starts_with_a_key_that_cannot_be_used(
    make_task: MakeTask, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key is a mistake of the deployment; without the error, its records would have no signature."""
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
    """With a key, the proof costs no call to AWS."""
    task = make_task()
    crash_while_waiting(task, emulated_time)
    emulator.control.clear_calls()

    assert task.next_try().error is None
    steps = {"DescribePipelineDefinitionForExecution", "ListPipelineExecutionSteps", "DescribeProcessingJob"}
    assert set(calls(emulator)) <= {"DescribePipelineExecution", "ListPipelineExecutions", *steps}
