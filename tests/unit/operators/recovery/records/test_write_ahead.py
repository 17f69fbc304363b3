"""Write-ahead: each request that costs money is stored before it is sent to AWS."""

from __future__ import annotations

from typing import Any

from polysync_airflow.execution.models import StartRequest
from sagemaker_emulator import EmulatorServer
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    RETRY,
    START,
    ExecutionLog,
    RequestInterceptor,
    Task,
    crash,
    tokens,
)


def save_request_and_record(task: Task, saved: list[Any]) -> Any:
    """
    Return an action that saves a request together with the record that is stored at
    that moment.
    """
    return lambda body: saved.append((body, task.last_record))


def test_start_request_is_stored_before_it_is_sent(
    make_task: MakeTask, interceptor: RequestInterceptor
) -> None:
    """
    Before StartPipelineExecution is sent, the record has the same token and content,
    and no ARN.
    """
    task, saved = make_task(pipeline_parameters={"Shards": 4}, max_parallel_steps=2), []  # type: ignore[var-annotated]
    interceptor.before(START, save_request_and_record(task, saved))

    task.next_try()

    ((request, record),) = saved
    assert StartRequest.model_validate(record["request"]).to_aws() == request
    assert record["request"]["client_request_token"] == request["ClientRequestToken"]
    assert record["epoch"] == task.max_tries
    assert record["region_name"] == "us-east-1"
    assert record.get("execution_arn") is None


def test_arn_is_stored_before_xcoms_are_pushed(
    make_task: MakeTask, execution_log: ExecutionLog
) -> None:
    """
    The ARN is stored before any XCom is pushed: a new try has the record but no XComs.
    """
    task = make_task()
    task.prepare_try()
    pushed: list[Any] = []
    writes: list[Any] = []
    store_set = task.store.set

    def recording_set(key: str, value: Any) -> None:
        writes.append((value.get("execution_arn"), list(pushed)))
        store_set(key, value)

    task.store.set = recording_set  # type: ignore[method-assign]

    task.run_prepared_try()

    assert writes == [(None, []), (execution_log.arns[0], [])]


def test_resume_is_stored_before_it_is_sent(
    make_task: MakeTask, interceptor: RequestInterceptor, emulator: EmulatorServer
) -> None:
    """
    Before RetryPipelineExecution is sent, the record has the same token and no time of
    the resume.
    """
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task, saved = make_task(retry_mode="resume"), []  # type: ignore[var-annotated]
    interceptor.before(RETRY, save_request_and_record(task, saved))

    task.next_try()
    task.next_try()

    ((request, record),) = saved
    assert record["resume_token"] == request["ClientRequestToken"]
    assert (record["resumes"], record.get("resumed_at")) == (1, None)
    assert task.last_record.get("resumed_at") is not None


def test_each_resume_has_its_own_token(
    make_task: MakeTask, interceptor: RequestInterceptor, emulator: EmulatorServer
) -> None:
    """
    A second resume has a new token: with the first token, AWS would not resume again.
    """
    emulator.control.put_scenario(MERGE_FAILS_TWICE)
    task, saved = make_task(retry_mode="resume"), []  # type: ignore[var-annotated]
    for _ in range(2):
        interceptor.before(RETRY, save_request_and_record(task, saved))

    runs = [task.next_try() for _ in range(3)]

    assert [bool(run.error) for run in runs] == [True, True, False]
    assert len(set(tokens(emulator, RETRY))) == 2
    assert [(record["resumes"], record.get("resumed_at")) for _, record in saved] == [
        (1, None),
        (2, None),
    ]
    assert all(
        request["ClientRequestToken"] == record["resume_token"]
        for request, record in saved
    )


def test_start_is_not_sent_if_the_record_cannot_be_stored(
    make_task: MakeTask, emulator: EmulatorServer
) -> None:
    """If Airflow cannot be reached, no execution is started."""
    task = make_task()
    task.prepare_try()
    task.store.set = crash  # type: ignore[method-assign,assignment]

    task.run_prepared_try()

    assert tokens(emulator, START) == []


def test_resume_is_not_sent_if_the_record_cannot_be_stored(
    make_task: MakeTask, emulator: EmulatorServer
) -> None:
    """If Airflow cannot be reached, no resume is requested."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    task.store.set = crash  # type: ignore[method-assign,assignment]

    task.next_try()

    assert tokens(emulator, RETRY) == []
