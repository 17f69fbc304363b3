"""The outcome table, every row driven through both modes against the emulator."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from structlog.testing import capture_logs

from polysync_airflow import exceptions
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator, PolysyncStopPipelineOperator
from tests.tasks import EmulatedTime, Run, run_task

Stage = Callable[[EmulatorServer, EmulatedTime], None]
MINUTES = 60.0


def scenario(**members: Any) -> Stage:
    """Set how executions go."""
    return lambda emulator, _: emulator.control.put_scenario(members)


def fault(kind: str, operation: str = "DescribePipelineExecution", **members: Any) -> Stage:
    """Set how calls go wrong."""

    def stage(emulator: EmulatorServer, _: EmulatedTime) -> None:
        emulator.control.add_fault(kind, operation, **members)

    return stage


def stopped_by_somebody(emulator: EmulatorServer, clock: EmulatedTime) -> None:
    """Stop whatever runs, by other hands, after a minute."""

    def stop() -> None:
        from polysync_airflow.hooks import PolysyncSageMakerHook

        started = [c for c in emulator.control.calls("StartPipelineExecution") if c["status"] == 200]
        assert started
        hook = PolysyncSageMakerHook()
        client: Any = hook.conn
        page = client.list_pipeline_executions(PipelineName="fanout")
        hook.stop_pipeline_execution(page["PipelineExecutionSummaries"][0]["PipelineExecutionArn"])

    clock.after(60, stop)


@dataclass
class Row:
    """One row: how the world is, what the operator is told, and what must come of it."""

    name: str
    state: str
    stage: tuple[Stage, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    error: type[BaseException] | None = None
    says: tuple[str, ...] = ()
    stops: int = 0


FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": "AlgorithmError: no data in shard 3"}}}}

ROWS = [
    Row("Succeeded", "Success"),
    Row(
        "Failed",
        "Failed",
        (scenario(**FAILED_STEP),),
        error=exceptions.PipelineExecutionFailedError,
        says=("One or multiple steps failed", "Shard3: ", "AlgorithmError: no data in shard 3"),
    ),
    Row(
        "Failed, its steps not listable",
        "Failed",
        (
            scenario(**FAILED_STEP),
            fault("error", "ListPipelineExecutionSteps", code="AccessDeniedException", message="not you"),
        ),
        error=exceptions.PipelineExecutionFailedError,
        says=("One or multiple steps failed", "could not be listed", "sagemaker:ListPipelineExecutionSteps"),
    ),
    Row(
        "Stopped",
        "Cancelled",
        (stopped_by_somebody,),
        error=exceptions.PipelineExecutionCancelledFailError,
        says=("was stopped",),
        stops=1,
    ),
    Row(
        "Stopped, skip",
        "Cancelled",
        (stopped_by_somebody,),
        {"on_cancelled": "skip"},
        AirflowSkipException,
        stops=1,
    ),
    Row(
        "Stopped, retry",
        "Cancelled",
        (stopped_by_somebody,),
        {"on_cancelled": "retry"},
        exceptions.PipelineExecutionCancelledError,
        stops=1,
    ),
    Row(
        "CompletedWithFailures",
        "Failed",
        (scenario(end_as="CompletedWithFailures", **FAILED_STEP),),
        error=exceptions.PipelineExecutionFailedError,
        says=("CompletedWithFailures", "AlgorithmError: no data in shard 3"),
    ),
    Row(
        "CompletedWithFailures, succeed",
        "Failed",
        (scenario(end_as="CompletedWithFailures", **FAILED_STEP),),
        {"on_completed_with_failures": "succeed"},
    ),
    Row(
        "unknown for a while",
        "Success",
        (scenario(statuses=[{"status": "Pausing", "after": 20, "until": 200}]),),
    ),
    Row(
        "unknown for ever",
        "Unknown",
        (
            scenario(
                statuses=[{"status": "Pausing", "after": 20, "until": None}],
                steps={"Merge": {"duration": None}},
            ),
        ),
        {"timeout": 30 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("Pausing", "asked to stop"),
        stops=1,
    ),
    Row(
        "timeout",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 8 * 60 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("Executing", "the limit of 28800 s", "asked to stop"),
        stops=1,
    ),
    Row(
        "timeout, not to be stopped",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 8 * 60 * MINUTES, "stop_on_kill": False},
        exceptions.PipelineExecutionTimeoutError,
        ("goes on running",),
    ),
    Row(
        "execution_timeout before timeout",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 8 * 60 * MINUTES, "execution_timeout": timedelta(minutes=40)},
        exceptions.PipelineExecutionTimeoutError,
        ("the limit of 2400 s", "asked to stop"),
        stops=1,
    ),
    Row(
        "timeout, but it had ended meanwhile",
        "Unknown",
        (fault("throttle", seconds=60 * MINUTES + 0.5),),
        {"timeout": 60 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("had ended meanwhile", "Succeeded"),
        stops=2,
    ),
    Row("throttled, then not", "Success", (fault("throttle", count=5),)),
    Row("connections dropped, then not", "Success", (fault("dropped", count=4),)),
    Row(
        "credentials expired, then renewed",
        "Success",
        (fault("error", code="ExpiredTokenException", message="expired", count=3),),
    ),
    Row(
        "throttled for ever",
        "Unknown",
        (fault("throttle"), scenario(steps={"Merge": {"duration": None}})),
        {"timeout": 60 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("never seen", "Rate exceeded", "asked to stop"),
        stops=1,
    ),
    Row(
        "refused for good",
        "Unknown",
        (fault("error", code="AccessDeniedException", message="not you"),),
        error=exceptions.SageMakerApiError,
        says=("sagemaker:DescribePipelineExecution", "asked to stop"),
        stops=1,
    ),
    Row(
        "gone",
        "Running",
        (fault("error", code="ResourceNotFound", message="no such execution", skip=3),),
        error=exceptions.SageMakerApiError,
        says=("no such execution",),
        stops=1,
    ),
]


def in_both_modes(run: Callable[[bool], tuple[Run, Any]]) -> tuple[Run, Any]:
    """Run synchronously and deferred, assert that nothing differs, and return the deferred run."""
    (here, seen_here), (deferred, seen_deferred) = run(False), run(True)
    assert here.trigger is None
    assert deferred.trigger is not None
    assert _comparable(here) == _comparable(deferred)
    assert seen_here == seen_deferred
    return deferred, seen_deferred


def _comparable(run: Run) -> Any:
    facts = (type(run.error), str(run.error), run.result, run.xcoms)
    text = re.sub(r"execution/[a-z0-9]{12}", "execution/ID", repr(facts))
    text = re.sub(r"\d{4}-\d\d-\d\dT[^']*", "TIME", text)
    return re.sub(r"after \d+ s|'seconds': [\d.]+", "SECONDS", text) if run.error is None else text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_start_ends_as_the_table_says(
    row: Row, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Every row gives the same result, XComs, message, log and calls in both modes; looks have schedules."""

    def run(deferrable: bool) -> tuple[Run, Any]:
        emulator.control.reset()
        emulated_time.at.clear()
        for stage in row.stage:
            stage(emulator, emulated_time)
        operator = PolysyncStartPipelineOperator(
            task_id="train", pipeline_name="fanout", deferrable=deferrable, poll_interval=60, **row.arguments
        )
        with capture_logs() as logs:
            outcome = run_task(operator)
        return outcome, (_calls_but_looks(emulator), _lines(logs))

    outcome, _ = in_both_modes(run)

    assert type(outcome.error) is (row.error or type(None)), outcome.error
    for text in row.says:
        assert text in str(outcome.error)
    assert outcome.xcoms["state"] == outcome.xcoms["run"]["state"] == row.state
    if row.error is None:
        assert outcome.result == outcome.xcoms["execution_arn"]
    stops = emulator.control.calls("StopPipelineExecution")
    assert len(stops) == row.stops


def _calls_but_looks(emulator: EmulatorServer) -> list[str]:
    looks = ("DescribePipelineExecution", "ListPipelineExecutions")
    return [call["operation"] for call in emulator.control.calls() if call["operation"] not in looks]


def _lines(logs: list[Any]) -> list[str]:
    lines = [f"{entry['log_level']}: {entry['event']}" for entry in logs]
    lines = [re.sub(r"execution/[a-z0-9]{12}", "execution/ID", line) for line in lines]
    # Which changes of status are seen depends on when one looks.
    return [line for line in lines if not re.search(r"after \d+ s: ", line)]


STOP_ROWS = [
    Row("Stopped", "Cancelled", stops=1),
    Row("Succeeded meanwhile", "Success", arguments={"after": 40 * MINUTES}),
    Row(
        "Succeeded meanwhile, must run",
        "",
        arguments={"after": 40 * MINUTES, "fail_if_not_running": True},
        error=exceptions.PipelineExecutionError,
        says=("had ended already", "Succeeded"),
    ),
    Row("Failed", "Failed", (scenario(**FAILED_STEP),), {"after": 40 * MINUTES}),
    Row(
        "CompletedWithFailures",
        "Failed",
        (scenario(end_as="CompletedWithFailures", **FAILED_STEP),),
        {"after": 40 * MINUTES},
    ),
    Row(
        "transient conflicts",
        "Cancelled",
        (
            fault(
                "error", "StopPipelineExecution", code="ConflictException", message="between steps", count=3
            ),
        ),
        stops=4,
    ),
    Row(
        "held up by a callback step",
        "",
        arguments={"pipeline": "callback-lambda", "timeout": 30 * MINUTES, "after": 2 * MINUTES},
        error=exceptions.PipelineExecutionTimeoutError,
        says=("may still be running", "Stopping"),
        stops=1,
    ),
    Row(
        "looks refused for good",
        "",
        (fault("error", code="AccessDeniedException", message="not you", skip=1),),
        error=exceptions.SageMakerApiError,
        says=("sagemaker:DescribePipelineExecution", "may still be running"),
        stops=1,
    ),
    Row(
        "stop refused for good",
        "",
        (fault("error", "StopPipelineExecution", code="AccessDeniedException", message="not you"),),
        error=exceptions.SageMakerApiError,
        says=("sagemaker:StopPipelineExecution",),
        stops=1,
    ),
]


@pytest.mark.parametrize("row", STOP_ROWS, ids=lambda row: row.name)
def test_stop_ends_as_the_table_says(
    row: Row, emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a stop gives the same result, message and log in both modes."""
    from polysync_airflow import hooks

    monkeypatch.setattr(hooks, "time", emulated_time)
    arguments = dict(row.arguments)
    after, pipeline = arguments.pop("after", 5 * MINUTES), arguments.pop("pipeline", "fanout")

    def run(deferrable: bool) -> tuple[Run, Any]:
        emulator.control.reset()
        for stage in row.stage:
            stage(emulator, emulated_time)
        parameters = {"Approver": "me"} if pipeline == "callback-lambda" else {}
        started = run_task(
            PolysyncStartPipelineOperator(
                task_id="start",
                pipeline_name=pipeline,
                pipeline_parameters=parameters,
                wait_for_completion=False,
            )
        )
        emulated_time.sleep(after)
        operator = PolysyncStopPipelineOperator(
            task_id="stop", execution_arn=started.result, deferrable=deferrable, poll_interval=60, **arguments
        )
        with capture_logs() as logs:
            outcome = run_task(operator)
        return outcome, _lines(logs)

    if row.arguments.get("after") and row.error is not exceptions.PipelineExecutionTimeoutError:
        outcome, _ = run(deferrable=True)
        assert outcome.trigger is None, "an execution that has ended needs no wait"
    elif "stop refused" in row.name:
        outcome, _ = run(deferrable=True)
    else:
        outcome, _ = in_both_modes(run)

    assert type(outcome.error) is (row.error or type(None)), outcome.error
    for text in row.says:
        assert text in str(outcome.error)
    assert outcome.result == (row.state or None)
    assert len(emulator.control.calls("StopPipelineExecution")) == row.stops


@pytest.mark.parametrize("deferrable", [False, True])
def test_not_waiting_returns_at_once(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Whether to wait and how to wait are independent: no wait, no trigger, no sleep, in either mode."""
    arguments: dict[str, Any] = {"deferrable": deferrable, "wait_for_completion": False}

    start = run_task(PolysyncStartPipelineOperator(task_id="start", pipeline_name="fanout", **arguments))
    stop = run_task(PolysyncStopPipelineOperator(task_id="stop", execution_arn=start.result, **arguments))

    assert start.result.startswith("arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/")
    assert stop.result == "Running"
    assert (start.trigger, stop.trigger, emulated_time.slept) == (None, None, [])


def test_an_execution_stopped_by_somebody_does_not_use_retries() -> None:
    """``on_cancelled="fail"`` raises what Airflow does not retry, and still what callers of ours catch."""
    assert issubclass(exceptions.PipelineExecutionCancelledFailError, AirflowFailException)
    assert not issubclass(exceptions.PipelineExecutionCancelledError, AirflowFailException)


def test_changes_of_status_are_logged_once_and_not_every_look(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A wait of many looks writes a line per change, with pipeline, ARN, status and seconds so far."""
    emulator.control.put_scenario({"statuses": [{"status": "Pausing", "after": 100, "until": 400}]})
    operator = PolysyncStartPipelineOperator(task_id="train", pipeline_name="fanout", poll_interval=30)

    with capture_logs() as logs:
        arn = run_task(operator).result

    lines = [line.replace(arn, "ARN") for line in (f"{e['log_level']}: {e['event']}" for e in logs)]
    label = "Pipeline fanout, execution ARN"
    assert [line for line in lines if label in line][:5] == [
        f"info: Executing after 30 s: {label}",
        f"info: Executing -> Pausing after 120 s: {label}",
        f"warning: {label} has the status 'Pausing', which this version does not know; waiting on, until the "
        "timeout at the latest.",
        f"info: Pausing -> Executing after 420 s: {label}",
        f"info: Executing -> Succeeded after {_seconds(lines)} s: {label}",
    ]
    assert len(emulator.control.calls("DescribePipelineExecution")) > 10


def _seconds(lines: list[str]) -> str:
    found = re.search(r"-> Succeeded after (\d+) s", "\n".join(lines))
    assert found
    return found[1]
