"""``retry_mode="resume"``: AWS goes on from what failed; if it will not, a new execution and the reason why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PipelineExecutionTimeoutError, SageMakerApiError
from tests.conftest import connection
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    DESCRIBE,
    LIST_STEPS,
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    RETRY,
    START,
    STOP,
    DeathError,
    Ledger,
    Task,
    attempts,
    calls,
    die,
    tokens,
)
from tests.tasks import EmulatedTime, Run

SHARDS = [f"Shard{i}" for i in range(5)]


def said(logs: list[Any], level: str = "") -> list[str]:
    """Return the lines of a log, as people read them."""
    lines = [entry for entry in logs if level in ("", entry["log_level"])]
    return [line["event"] % line.get("positional_args", ()) for line in lines]


def fail_then_retry(task: Task, emulator: EmulatorServer, **arguments: Any) -> tuple[Run, list[Any]]:
    """Let the first try's execution fail; return the second try and its log."""
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
def test_what_had_succeeded_is_not_done_again(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """One execution, five steps run once, the failed one twice; result and XComs as usual."""
    task = make_task(retry_mode="resume")

    run, _ = fail_then_retry(task, emulator)

    assert run.error is None
    assert run.result == run.xcoms["execution_arn"] == ledger.arns[0]
    assert ledger.statuses == ["Succeeded"]
    assert attempts(ledger.executions[0]) == {**dict.fromkeys(SHARDS, 1), "Merge": 2}
    assert run.xcoms["state"] == "Success"
    assert run.xcoms["run"]["resumes"] == 1


@pytest.mark.usefixtures("fails_once")
def test_the_log_names_what_is_kept_and_what_is_repeated(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Who pays for the steps can read which ones are paid for again."""
    task = make_task(retry_mode="resume")

    _, logs = fail_then_retry(task, emulator)

    arn = ledger.arns[0]
    assert (
        f"Execution {arn} goes on from where it failed. Kept: Shard0, Shard1, Shard2, Shard3, Shard4. "
        "Repeated: Merge (Failed); then what follows."
    ) in said(logs)
    assert f"Resumed execution {arn}" in said(logs)


@pytest.mark.parametrize("limit", [2, None])
@pytest.mark.usefixtures("fails_once")
def test_the_limit_of_parallel_steps_is_sent_along(
    limit: int | None, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """AWS forgets the start's limit at a retry, so that it goes along; the first try's, not today's."""
    task = make_task(retry_mode="resume", max_parallel_steps=limit)

    fail_then_retry(task, emulator, max_parallel_steps=7)

    (call,) = emulator.control.calls(RETRY)
    expected = {"MaxParallelExecutionSteps": limit} if limit else None
    assert call["request"].get("ParallelismConfiguration") == expected
    assert call["request"]["PipelineExecutionArn"] == ledger.arns[0]


def test_the_deadline_counts_from_the_resume(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """An execution that failed after hours has its whole ``timeout`` again; and no more."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume", timeout=600)
    task.next_try()
    emulator.control.advance(5000)
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    resumed_at = emulated_time.time()

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "the limit of 600 s" in str(run.error)
    assert emulated_time.time() - resumed_at == pytest.approx(600, abs=1)


def test_the_deadline_of_a_resume_survives_a_death(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The try after a death counts from the same resume: neither from the start, nor anew."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume", timeout=600)
    task.next_try()
    emulator.control.advance(5000)
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    resumed_at = emulated_time.time()
    emulated_time.after(300, die)
    assert isinstance(task.next_try().error, DeathError)

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert emulated_time.time() - resumed_at == pytest.approx(600, abs=1)


REFUSALS = [("AccessDeniedException", "not you"), ("ValidationException", "too old to be retried")]


@pytest.mark.parametrize(("code", "message"), REFUSALS, ids=[code for code, _ in REFUSALS])
def test_if_aws_refuses_a_new_execution_is_started_and_the_log_says_why(
    code: str, message: str, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """A retry must not be lost because it cannot be a cheap one."""
    emulator.control.put_scenario(MERGE_FAILS)
    emulator.control.add_fault("error", RETRY, code=code, message=message)
    task = make_task(retry_mode="resume")
    assert task.next_try().error
    emulator.control.put_scenario({})

    with capture_logs() as logs:
        run = task.next_try(pipeline_parameters={"Shards": 3})

    assert run.error is None
    assert ledger.statuses == ["Failed", "Succeeded"]
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}
    assert run.xcoms["run"]["resumes"] == 0
    warnings = "\n".join(said(logs, "warning"))
    assert f"cannot be resumed: RetryPipelineExecution failed: {code}: {message}" in warnings
    assert "A new execution is started instead, which repeats every step." in warnings
    if code == "AccessDeniedException":
        assert "Allow sagemaker:RetryPipelineExecution" in warnings


def test_a_policy_without_retry_still_lets_a_task_go_on(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An identity that IAM gives no RetryPipelineExecution gets a new execution: judged by a real policy."""
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
            endpoint_url=emulator.endpoint_url, login=key["AccessKeyId"], password=key["SecretAccessKey"]
        ),
    )
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    assert task.next_try().error
    emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Failed", "Succeeded"]
    assert [call["error_code"] for call in emulator.control.calls(RETRY)] == ["AccessDeniedException"]


@pytest.mark.usefixtures("fails_once")
def test_a_lost_answer_is_still_one_resume(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The repeat carries the same token: AWS sees one retry, and so does the log of attempts."""
    emulator.control.add_fault("lost_response", RETRY, count=1)
    task = make_task(retry_mode="resume")

    run, _ = fail_then_retry(task, emulator)

    assert run.error is None
    assert len(tokens(emulator, RETRY)) == 2
    assert len(set(tokens(emulator, RETRY)) - {""}) == 1
    assert attempts(ledger.executions[0])["Merge"] == 2
    assert ledger.statuses == ["Succeeded"]


@pytest.mark.usefixtures("fails_once")
def test_passing_faults_do_not_turn_a_resume_into_a_new_execution(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Throttling, a 503 or a dropped connection on the retry is no refusal."""
    for kind in ("throttle", "http", "dropped"):
        emulator.control.add_fault(kind, RETRY, count=2)
    task = make_task(retry_mode="resume")

    run, _ = fail_then_retry(task, emulator)

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert attempts(ledger.executions[0])["Merge"] == 2


@pytest.mark.parametrize("kind", ["throttle", "http", "dropped", "lost_response"])
@pytest.mark.usefixtures("fails_once")
def test_a_try_without_an_answer_leaves_the_resume_to_the_next_one(
    kind: str, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """No answer for longer than a try may take is no refusal: that try fails, and the next one asks again."""
    task = make_task(retry_mode="resume")
    task.next_try()
    # A patience of 10 s ends with the fourth call.
    emulator.control.add_fault(kind, RETRY, count=4)

    assert isinstance(task.next_try(timeout=10).error, SageMakerApiError)
    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert attempts(ledger.executions[0])["Merge"] == 2


@pytest.mark.parametrize(("code", "message"), REFUSALS, ids=[code for code, _ in REFUSALS])
@pytest.mark.usefixtures("fails_once")
def test_a_refusal_of_what_was_granted_before_starts_nothing_beside_it(
    code: str, message: str, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Granted, the answer lost, then refused: the execution runs, so it is adopted."""
    emulator.control.add_fault("lost_response", RETRY, count=1)
    emulator.control.add_fault("error", RETRY, code=code, message=message)
    task = make_task(retry_mode="resume")

    run, _ = fail_then_retry(task, emulator)

    assert run.error is None
    assert calls(emulator, START) == []
    assert ledger.statuses == ["Succeeded"]
    assert task.record["resumed_at"] is not None
    assert attempts(ledger.executions[0])["Merge"] == 2


@pytest.mark.usefixtures("fails_once")
def test_a_refusal_that_cannot_be_looked_behind_starts_nothing(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Refused, and AWS will not say whether it runs: an error, and no second execution."""
    task = make_task(retry_mode="resume")
    task.next_try()
    emulator.control.add_fault("error", RETRY, code="ValidationException", message="no")
    emulator.control.add_fault("error", DESCRIBE, code="AccessDeniedException", message="not you", skip=1)

    run = task.next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert len(ledger.arns) == 1


@pytest.mark.usefixtures("fails_once")
def test_steps_that_may_not_be_listed_are_resumed_all_the_same(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """ListPipelineExecutionSteps is for the log only."""
    task = make_task(retry_mode="resume")
    task.next_try()
    emulator.control.add_fault("error", LIST_STEPS, code="AccessDeniedException", message="not you")

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    (warning,) = [line for line in said(logs, "warning") if line.startswith("Which steps")]
    assert warning.startswith("Which steps will be repeated could not be listed: ")
    assert "sagemaker:ListPipelineExecutionSteps" in warning


def test_each_retry_resumes_again(make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer) -> None:
    """Two failures, two resumes, one execution."""
    emulator.control.put_scenario(MERGE_FAILS_TWICE)
    task = make_task(retry_mode="resume")

    runs = [task.next_try() for _ in range(3)]

    assert [run.error is None for run in runs] == [False, False, True]
    assert [run.xcoms["run"]["resumes"] for run in runs] == [0, 1, 2]
    assert ledger.statuses == ["Succeeded"]
    assert attempts(ledger.executions[0]) == {**dict.fromkeys(SHARDS, 1), "Merge": 3}


@pytest.mark.usefixtures("fails_once")
def test_what_is_resumed_is_stopped_at_its_deadline(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """Nothing runs on after its task has given up, resumed or not."""
    task = make_task(retry_mode="resume", timeout=700)
    task.next_try()
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})

    run = task.next_try()
    emulator.control.advance(60)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert ledger.statuses == ["Stopped"]
    assert len(tokens(emulator, STOP)) == 1
