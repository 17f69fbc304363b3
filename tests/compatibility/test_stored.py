"""
A task that an earlier version started is finished by this version.

``stored_by_6b5eca3.json`` was written by the code of that commit, before the package
got its present folders: the record in the task state store, the row of a deferred
task's trigger, and the event that resumes it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.serialization.serialized_objects import BaseSerialization

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.fakes.json_store import JsonStore
from tests.tasks import EmulatedTime, TaskInstance, run_task

STORED = Path(__file__).with_name("stored_by_6b5eca3.json").read_text()
STORED_ARN = json.loads(STORED)["event"]["execution_arn"]
STORE_KEY = "polysync_execution"


def start_execution() -> str:
    """Start an execution, as the earlier version did."""
    client: Any = PolysyncSageMakerHook().conn
    arn: str = client.start_pipeline_execution(PipelineName="fanout")[
        "PipelineExecutionArn"
    ]
    return arn


def stored(arn: str) -> dict[str, Any]:
    """Return what the earlier version stored, about an execution of the emulator."""
    content: dict[str, Any] = json.loads(STORED.replace(STORED_ARN, arn))
    return content


@pytest.fixture
def accept_unsigned_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment is being upgraded, as the changelog describes it."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__ACCEPT_UNSIGNED_RECORDS", "True")


def retry_with(record: dict[str, Any]) -> TaskInstance:
    """
    Return the task instance of a second try that finds a record in the task state store
    of Airflow 3.3.
    """
    ti = TaskInstance("train", try_number=2, task_state_store=JsonStore())
    assert ti.task_state_store
    ti.task_state_store.set(STORE_KEY, record[STORE_KEY])
    return ti


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.usefixtures("accept_unsigned_records")
def test_a_stored_request_without_an_arn_is_sent_again(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The retry sends the stored request with the stored token, and waits for that
    execution.
    """
    record = json.loads(STORED)["records"]["asked"]
    operator = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        pipeline_parameters={"Shards": 9},
        deferrable=deferrable,
        poll_interval=60,
    )

    run = run_task(operator, retry_with(record))

    request = record[STORE_KEY]["request"]
    (call,) = emulator.control.calls("StartPipelineExecution")
    assert call["request"]["ClientRequestToken"] == request["client_request_token"]
    assert call["request"]["PipelineName"] == request["pipeline_name"]
    assert (
        call["request"]["PipelineExecutionDisplayName"]
        == request["execution_display_name"]
    )
    assert run.error is None
    assert run.xcoms["state"] == "Success"


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("name", ["started", "resumed"])
@pytest.mark.usefixtures("accept_unsigned_records")
def test_a_retry_reattaches_to_the_stored_execution(
    name: str, deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The retry starts nothing, and waits for the execution of the record."""
    arn = start_execution()
    emulator.control.clear_calls()
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=deferrable, poll_interval=60
    )

    ti = retry_with(stored(arn)["records"][name])
    run = run_task(operator, ti)

    assert (run.error, run.result) == (None, arn)
    # From now on, the record is in the Variable only.
    assert ti.task_state_store
    assert ti.task_state_store.values == {}
    assert ti.store.deleted[STORE_KEY]["try_number"] == 2
    assert emulator.control.calls("StartPipelineExecution") == []
    assert run.xcoms["run"]["resumes"] == (1 if name == "resumed" else 0)


@pytest.mark.usefixtures("accept_unsigned_records")
def test_a_clear_stops_the_stored_execution(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Then it starts one with a token that follows from the task."""
    arn = start_execution()
    emulator.control.clear_calls()
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", poll_interval=60
    )
    ti = retry_with(stored(arn)["records"]["started"])
    ti.max_tries = 5

    run = run_task(operator, ti)

    (stop,) = emulator.control.calls("StopPipelineExecution")
    (start,) = emulator.control.calls("StartPipelineExecution")
    assert stop["request"]["PipelineExecutionArn"] == arn
    assert start["request"]["ClientRequestToken"].endswith("-0")
    assert (run.error, run.xcoms["state"]) == (None, "Success")


def test_a_stored_trigger_row_is_run(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The trigger is created from the stored class path and arguments, and its event
    resumes the task.
    """
    arn = start_execution()
    row = stored(arn)["trigger"]
    kwargs = BaseSerialization.deserialize(row["kwargs"])
    now = emulated_time.time()
    trigger = import_string(row["classpath"])(
        **{**kwargs, "since": now, "deadline": now + 7 * 3600}
    )
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=True
    )
    ti = TaskInstance("train")

    async def fire() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    (payload,) = asyncio.run(fire())

    # A worker of that version refuses an event with a member that it does not know.
    assert payload.keys() <= json.loads(STORED)["event"].keys() | {
        "attempt",
        "attempt_started_at",
    }
    context = ti.context(operator)
    assert operator.execute_complete(context, payload) == arn
    assert ti.xcoms["state"] == "Success"
    assert trigger.serialize()[0] == row["classpath"]
    # Later arguments have a default value, with which the trigger does what that
    # version did.
    added = trigger.serialize()[1].keys() - kwargs.keys()
    assert added == {"progress_interval", "stop_at"}
    assert trigger.progress_interval is None


def test_a_stored_event_resumes_the_task(emulator: EmulatorServer) -> None:
    """
    The methods that a deferred task is resumed in have kept their names, and read the
    event.
    """
    content = json.loads(STORED)
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=True
    )
    ti = TaskInstance("train")
    context = ti.context(operator)

    assert all(hasattr(operator, method) for method in content["next_methods"])
    assert operator.execute_complete(context, content["event"]) == STORED_ARN
    assert (ti.xcoms["state"], ti.xcoms["run"]["seconds"]) == ("Success", 600.0)
