"""
``retry_mode="resume"``: AWS continues an execution from its failed steps, or a new
execution starts.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionTimeoutError
from polysync_airflow.execution.texts import format_seconds
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES, connection
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    DESCRIBE,
    LIST_STEPS,
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    RETRY,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    Task,
    crash,
    step_attempts,
)

SHARDS = ["Shard0", "Shard3"]


def log_lines(logs: list[Any], level: str = "") -> list[str]:
    """Return the log lines, with their arguments filled in."""
    lines = [entry for entry in logs if level in ("", entry["log_level"])]
    return [line["event"] % line.get("positional_args", ()) for line in lines]


def fail_then_retry(
    task: Task, emulator: EmulatorServer, **arguments: Any
) -> tuple[Run, list[Any]]:
    """Let the execution of the first try fail; return the second try and its log."""
    assert "AlgorithmError" in str(task.next_try().error)
    emulator.control.clear_calls()
    with capture_logs() as logs:
        run = task.next_try(**arguments)
    return run, logs


@pytest.fixture
def fails_once(emulator: EmulatorServer) -> None:
    """The last step fails at its first attempt."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)


@pytest.mark.usefixtures("fails_once")
def test_succeeded_steps_are_not_repeated(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    In the same execution, the five succeeded steps run once and the failed step runs
    twice.
    """
    task = make_task(retry_mode="resume")

    run, _ = fail_then_retry(task, emulator)

    assert run.error is None
    assert run.result == run.xcoms["execution_arn"] == execution_log.arns[0]
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0]) == {
        **dict.fromkeys(SHARDS, 1),
        "Merge": 2,
    }
    assert run.xcoms["state"] == "Success"
    assert run.xcoms["run"]["resumes"] == 1


@pytest.mark.usefixtures("fails_once")
def test_kept_and_repeated_steps_are_logged(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    The log names the steps that are kept and the steps that run, and cost money, again.
    """
    task = make_task(retry_mode="resume")

    _, logs = fail_then_retry(task, emulator)

    arn = execution_log.arns[0]
    assert (
        "Resuming from the failed steps. Kept: Shard0, Shard3. "
        f"Repeated: Merge (Failed), and all steps after: execution {arn}"
    ) in log_lines(logs)
    assert f"Resumed (resume 1): execution {arn}" in log_lines(logs)


@pytest.mark.parametrize(
    ("deferrable", "progress_interval"), [(False, 60), (True, None)]
)
@pytest.mark.usefixtures("fails_once")
def test_durations_after_a_resume_are_by_the_clock_of_aws(
    deferrable: bool,
    progress_interval: int | None,
    make_task: MakeTask,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    However wrong the host's clock is, the duration is that of the last attempt, and the
    log says so.
    """
    real = EmulatedTime.time
    monkeypatch.setattr(EmulatedTime, "time", lambda self: real(self) - 24 * 3600)
    task = make_task(
        retry_mode="resume", deferrable=deferrable, progress_interval=progress_interval
    )
    first = task.next_try()
    emulator.control.advance(5000)
    with capture_logs() as logs:
        run = task.next_try()

    record, whole = run.xcoms["run"], first.xcoms["run"]
    merge = run.xcoms["steps"][-1]
    assert record["started_at"] == whole["started_at"]
    assert whole["ended_at"] < record["attempt_started_at"] <= merge["started_at"]
    assert merge["seconds"] <= record["seconds"] < merge["seconds"] + 60
    duration = format_seconds(record["seconds"])
    assert (
        f"Pipeline fanout succeeded {duration} after resume 1 (AWS status Succeeded)."
        in log_lines(logs)[-1]
    )
    lines = [line for text in log_lines(logs) for line in text.splitlines()]
    kept = [line for line in lines if line.startswith("Step Shard0 ")]
    assert len(kept) == 1
    assert kept[0].endswith(", before the last resume")


@pytest.mark.usefixtures("fails_once")
def test_known_steps_are_shown_before_the_next_list(
    make_task: MakeTask, emulated_time: EmulatedTime
) -> None:
    """
    Airflow deletes the XComs of the first try. What has succeeded is not unknown until
    AWS lists it again.
    """
    task = make_task(retry_mode="resume", progress_interval=None)
    first = task.next_try()
    emulated_time.after(100, crash)

    waiting = task.next_try()

    shown = {
        step["name"]: (step["state"], step["seconds"])
        for step in waiting.xcoms["steps"]
    }
    known = {
        step["name"]: (step["state"], step["seconds"]) for step in first.xcoms["steps"]
    }
    assert waiting.xcoms["run"]["state"] == "Running"
    assert shown == {**known, "Merge": ("NotStarted", None)}
    assert known["Merge"][0] == "Failed"


@pytest.mark.usefixtures("fails_once")
def test_resume_without_the_permission_to_list_steps(
    make_task: MakeTask, emulated_time: EmulatedTime, emulator: EmulatorServer
) -> None:
    """The steps of the definition are shown, as at a start."""
    task = make_task(retry_mode="resume", progress_interval=None)
    task.next_try()
    emulator.control.add_fault(
        "error", LIST_STEPS, code="AccessDeniedException", message="not authorized"
    )
    emulated_time.after(100, crash)

    waiting = task.next_try()

    assert {
        step["name"]: step["state"] for step in waiting.xcoms["steps"]
    } == dict.fromkeys([*SHARDS, "Merge"], "NotStarted")


@pytest.mark.parametrize("limit", [2, None])
@pytest.mark.usefixtures("fails_once")
def test_resume_sends_max_parallel_steps(
    limit: int | None,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    The resume sends the first try's ``max_parallel_steps``, because AWS does not keep
    it for a retry.
    """
    task = make_task(retry_mode="resume", max_parallel_steps=limit)

    fail_then_retry(task, emulator, max_parallel_steps=7)

    (call,) = emulator.control.calls(RETRY)
    expected = {"MaxParallelExecutionSteps": limit} if limit else None
    assert call["request"].get("ParallelismConfiguration") == expected
    assert call["request"]["PipelineExecutionArn"] == execution_log.arns[0]


@IN_BOTH_MODES
def test_timeout_after_a_crash_counts_from_the_resume(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """After a crash, ``timeout`` still counts from the resume, not from the new try."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume", timeout=600)
    task.next_try()
    emulator.control.advance(5000)
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    resumed_at = emulated_time.time()
    emulated_time.after(300, crash)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert emulated_time.time() - resumed_at == pytest.approx(600, abs=1)


REFUSALS = [
    ("AccessDeniedException", "not you"),
    ("ValidationException", "too old to be retried"),
]


@pytest.mark.parametrize(
    ("code", "message"), REFUSALS, ids=[code for code, _ in REFUSALS]
)
def test_refused_resume_starts_a_new_execution(
    code: str,
    message: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    If AWS refuses the resume, the retry starts a new execution and logs the reason.
    """
    emulator.control.put_scenario(MERGE_FAILS)
    emulator.control.add_fault("error", RETRY, code=code, message=message)
    task = make_task(retry_mode="resume")
    assert task.next_try().error
    emulator.control.put_scenario({})

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert execution_log.statuses == ["Failed", "Succeeded"]
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert run.xcoms["run"]["resumes"] == 0
    warnings = "\n".join(log_lines(logs, "warning"))
    assert (
        f"cannot be resumed: RetryPipelineExecution failed: {code}: {message}"
        in warnings
    )
    assert (
        "A new execution, which repeats every step, is started in place of execution "
        in warnings
    )
    if code == "AccessDeniedException":
        assert "Allow sagemaker:RetryPipelineExecution" in warnings


def test_resume_without_permission_starts_a_new_execution(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Without the permission RetryPipelineExecution in the IAM policy, a new execution
    starts.
    """
    import boto3

    client: Any = boto3.client(
        "iam",
        endpoint_url=emulator.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="x",
    )
    client.create_user(UserName="airflow")
    key = client.create_access_key(UserName="airflow")["AccessKey"]
    allowed = {
        "Effect": "Allow",
        "Action": [f"sagemaker:{o}" for o in (START, STOP, DESCRIBE, LIST_STEPS)],
        "Resource": "*",
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    client.put_user_policy(UserName="airflow", PolicyName="p", PolicyDocument=document)
    emulator.control.set_sign_in(enforce_iam=True)
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLYSYNC_DEFAULT",
        connection(
            endpoint_url=emulator.endpoint_url,
            login=key["AccessKeyId"],
            password=key["SecretAccessKey"],
        ),
    )
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    assert task.next_try().error
    emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Failed", "Succeeded"]
    assert [call["error_code"] for call in emulator.control.calls(RETRY)] == [
        "AccessDeniedException"
    ]


@pytest.mark.usefixtures("fails_once")
def test_resume_without_permission_to_list_steps(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    Without the permission ListPipelineExecutionSteps, which only the log needs, the
    resume still works.
    """
    task = make_task(retry_mode="resume")
    task.next_try()
    emulator.control.add_fault(
        "error", LIST_STEPS, code="AccessDeniedException", message="not you"
    )

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]
    (warning,) = [
        line for line in log_lines(logs, "warning") if "could not be listed" in line
    ]
    assert "The steps that will be repeated could not be listed: " in warning
    assert "sagemaker:ListPipelineExecutionSteps" in warning
