"""
The end of a task in the triggerer: the event, the XComs and the log lines for what its
code returns or raises.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from polysync_airflow.exceptions import ParametersError, PipelineExecutionFailedError
from polysync_airflow.retrying import PolysyncRetryPolicy, next_session
from polysync_airflow.sensors import PolysyncModelApprovalSensor
from polysync_airflow.triggers.task_end import TaskEnd
from tests.tasks import TaskInstance
from tests.unit.execution.lifecycle.builders import api_error

LOG = logging.getLogger("tests.task_end")
# Seconds. No step of these tests may take this long, even on a busy machine.
LONG = 20.0
FAILED = PipelineExecutionFailedError(
    "the execution failed", execution_arn="arn", status="Failed"
)
THROTTLED = api_error("ThrottlingException", "too many calls")


def make_end(*, retries: int = 0, do_xcom_push: bool = True, **members: Any) -> TaskEnd:
    """Return the end of a task that Airflow has started in the triggerer."""
    task: Any = SimpleNamespace(
        retries=retries,
        do_xcom_push=do_xcom_push,
        retry_delay=timedelta(seconds=7),
        retry_exponential_backoff=0,
        max_retry_delay=None,
    )
    ti = TaskInstance("wait", task=task, **members)
    return TaskEnd(ti=ti, connection_id="aws", log=LOG)


def end_with(result: Any, **arguments: Any) -> tuple[Any, TaskInstance]:
    """
    Run code that returns or raises something; return the event and the task instance.
    """

    def code(context: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result

    end = make_end(**arguments)
    return asyncio.run(end.run(code)), end.ti


@pytest.mark.parametrize(
    ("result", "retries", "event"),
    [
        ("arn", 0, TaskSuccessEvent),
        (None, 2, TaskSuccessEvent),
        (AirflowSkipException("not there"), 2, TaskSkippedEvent),
        (FAILED, 0, TaskFailedEvent),
        (FAILED, 2, TaskFailedEvent),
        (ValueError("a bug"), 2, TaskFailedEvent),
        (THROTTLED, 2, TaskFailedEvent),
        (ParametersError("no such thing"), 0, TaskFailedEvent),
        (ParametersError("no such thing"), 2, TriggerEvent),
        (AirflowFailException("enough"), 2, TriggerEvent),
        (AirflowSensorTimeout("too late"), 0, TaskFailedEvent),
        (AirflowSensorTimeout("too late"), 2, TriggerEvent),
        (AirflowException("broken"), 2, TaskFailedEvent),
    ],
    ids=repr,
)
def test_worker_ends_a_task_only_where_no_retry_may_follow(
    result: Any, retries: int, event: Any
) -> None:
    """A worker ends a task only where Airflow would retry what must not be retried."""
    found, ti = end_with(result, retries=retries)

    assert type(found) is event
    if event is TriggerEvent:
        assert found.payload == {"error": f"{type(result).__name__}: {result}"}
    assert ti.xcoms == ({"return_value": "arn"} if result == "arn" else {})


def test_worker_fails_the_task_without_its_retries() -> None:
    """
    Airflow calls this method with the event if the code's error must not be retried.
    """
    sensor = PolysyncModelApprovalSensor(task_id="wait", model_package_group="churn")

    with pytest.raises(AirflowFailException, match="ParametersError: no such thing"):
        sensor.execute_failed({}, {"error": "ParametersError: no such thing"})


def test_no_return_value_is_pushed_without_do_xcom_push() -> None:
    """As on a worker."""
    event, ti = end_with("arn", do_xcom_push=False)

    assert (type(event), ti.xcoms) == (TaskSuccessEvent, {})


def test_deferral_of_the_code_is_returned() -> None:
    """The trigger waits for it itself."""
    deferral = TaskDeferred(trigger=None, method_name="execute_complete")

    assert end_with(deferral)[0] is deferral


@pytest.mark.parametrize(
    ("error", "level", "text", "has_traceback"),
    [
        (
            FAILED,
            logging.ERROR,
            "PipelineExecutionFailedError: the execution failed",
            False,
        ),
        (ValueError("a bug"), logging.ERROR, "ValueError: a bug", True),
        (AirflowSkipException("not there"), logging.INFO, "not there", False),
    ],
    ids=repr,
)
def test_log_has_the_text_and_only_an_unforeseen_error_has_a_traceback(
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    level: int,
    text: str,
    has_traceback: bool,
) -> None:
    """The traceback says nothing more than the text of an error that was foreseen."""
    with caplog.at_level(logging.INFO, LOG.name):
        end_with(error)

    (record,) = caplog.records
    assert (record.levelno, bool(record.exc_info)) == (level, has_traceback)
    assert text in record.getMessage()


def test_code_runs_in_a_thread_with_the_xcoms_of_its_task() -> None:
    """
    It pulls what it has pushed, and the names of the context mean the same task
    instance.
    """
    seen = list[Any]()

    def code(context: Any) -> None:
        ti = context["ti"]
        ti.xcom_push("state", "Running")
        pulled = ti.xcom_pull(task_ids="wait", key="state", map_indexes=-1)
        seen.extend(
            [
                threading.current_thread().name,
                context["task_instance"] is ti,
                ti.dag_id,
                pulled,
            ]
        )

    end = make_end()
    asyncio.run(end.run(code))

    name, *rest = seen
    assert name.startswith("polysync-task")
    assert rest == [True, "retraining", "Running"]
    assert end.ti.xcoms == {"state": "Running"}


def test_text_names_the_delay_of_the_task() -> None:
    """The context of the code has all that the text needs."""
    seen = list[Any]()
    end = make_end(retries=2)

    asyncio.run(
        end.run(
            lambda context: seen.append(
                next_session(PolysyncRetryPolicy(), FAILED, context)
            )
        )
    )

    assert [session.when for session in seen] == ["in 7 s"]


def test_cancelled_trigger_pushes_nothing_more() -> None:
    """A user may have cleared the task, whose next try then has the XComs."""
    started = threading.Event()
    cancelled = threading.Event()
    ended = threading.Event()
    end = make_end()

    def code(context: Any) -> None:
        try:
            started.set()
            assert cancelled.wait(LONG)
            context["ti"].xcom_push("state", "Running")
        finally:
            ended.set()

    async def cancel() -> None:
        running = asyncio.create_task(end.run(code))
        assert await asyncio.to_thread(started.wait, LONG)
        running.cancel()
        await asyncio.wait([running])
        cancelled.set()
        assert await asyncio.to_thread(ended.wait, LONG)

    asyncio.run(cancel())

    assert end.ti.xcoms == {}
