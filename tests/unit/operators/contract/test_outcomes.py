"""
How a task ends: each row has the same outcome on a worker, deferred and in the
triggerer.

``tests/unit/sensors/test_errors.py`` has the errors of sensors, with ``soft_fail``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
)

from polysync_airflow import exceptions
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime
from tests.unit.operators.contract.cases import (
    HOUR,
    MINUTE,
    OPERATOR_MODES,
    SUBJECTS,
    Case,
    run_in_modes,
    run_start,
)
from tests.unit.sensors.sessions import airflow_time  # noqa: F401 # fixture
from tests.world import DESCRIBE, NEVER_ENDS, STOP, World

REASON = "AlgorithmError: no data in shard 3"
FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": REASON}}}}
# As long as AWS's texts are: the advice that follows on them is not cut off.
DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/airflow-workers/i-0123456789abcdef0"
    " is not authorized to perform: sagemaker:{0} on resource: arn:aws:sagemaker:"
    "us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl because no"
    " identity-based policy allows the sagemaker:{0} action"
)
NOT_FOUND = {"code": "ResourceNotFound", "message": "no such execution", "skip": 2}

Failed = exceptions.PipelineExecutionFailedError
Cancelled = exceptions.PipelineExecutionCancelledFailError
TimedOut = exceptions.PipelineExecutionTimeoutError
Refused = exceptions.SageMakerApiError

# For what is decided after the wait, or without it.
DEFERRED = ("deferrable",)


def failed(name: str, *texts: str, **members: Any) -> Case:
    """Return a case in which a step fails, and with it the task."""
    return Case(name, "Failed", FAILED_STEP, error=Failed, texts=texts, **members)


def stopped(name: str, *texts: str, after: float, **members: Any) -> Case:
    """Return a case in which somebody stops the execution, which fails the task."""
    members = {"error": Cancelled, "texts": texts, **members}
    return Case(name, "Cancelled", stopped_after=after, **members)


def skipped(name: str, *, after: float, **members: Any) -> Case:
    """Return a case in which somebody stops the execution, which skips the task."""
    members |= {"arguments": {"on_cancelled": "skip"}, "modes": DEFERRED}
    return stopped(name, after=after, error=AirflowSkipException, **members)


def timed_out(name: str, *texts: str, **members: Any) -> Case:
    """Return a case in which the execution never ends; by default within an hour."""
    members = {"arguments": {"timeout": HOUR}, **members}
    return Case(name, "Running", NEVER_ENDS, error=TimedOut, texts=texts, **members)


def refused(
    name: str, operation: str, *texts: str, state: str | None = None, **members: Any
) -> Case:
    """Return a case in which AWS denies an operation, which fails the task."""
    members = {"faults": denied(operation), **members}
    texts = (f"What to do: Allow sagemaker:{operation} on", *texts)
    return Case(name, state, error=Refused, texts=texts, **members)


def denied(operation: str, **members: Any) -> Any:
    """Return the faults of a case in which AWS denies an operation."""
    refusal = {"code": "AccessDeniedException", "message": DENIED.format(operation)}
    return (("error", operation, {**refusal, **members}),)


def throttled(**members: Any) -> Any:
    """Return the faults of a case in which AWS throttles the polls."""
    return (("throttle", DESCRIBE, members),)


FAILURE = "One or multiple steps failed"
STEP_FAILED = f"Step Shard3 failed: {REASON}"
LATE = "did not end before the timeout"
KEEPS_RUNNING = "The execution keeps running because stop_on_kill=False."
STOP_FAILED = "The execution may still be running: its stop failed"
NOT_FOUND_TEXTS = (
    "No execution was found within 1 h",
    "the first execution of pipeline fanout",
)
HALF_AN_HOUR = {"timeout": 30 * MINUTE}
TO_ITS_END = throttled(seconds=30 * MINUTE + 0.5)
UNSTOPPED = {"timeout": HOUR, "stop_on_kill": False}
FIRST_OF_TWO = {"timeout": 8 * HOUR, "execution_timeout": timedelta(minutes=20)}
IF_RUNNING = {"fail_if_not_running": True}
CALLBACK = {"pipeline": "callback-lambda", **HALF_AN_HOUR}
AN_HOUR = {"timeout": timedelta(hours=1)}
SHARD0 = {"step_name": "Shard0"}
SHARD3 = {"step_name": "Shard3"}
MERGE = {"step_name": "Merge"}
# The last poke of a rescheduled sensor does not know the status that the ones before
# have seen.
UNTIL_DELETED: Any = {
    "faults": (("error", DESCRIBE, NOT_FOUND),),
    "modes": ("poke", "deferrable"),
}

CASES: dict[str, list[Case]] = {
    "start": [
        Case("Succeeded", "Success"),
        failed("Failed", FAILURE, STEP_FAILED),
        stopped("Stopped", "was stopped", after=MINUTE),
        skipped("Stopped, skip", after=MINUTE),
        timed_out("timeout", "Executing", "the limit of 1 h", "asked to stop", stops=1),
        timed_out("timeout, stop_on_kill=False", KEEPS_RUNNING, arguments=UNSTOPPED),
        timed_out(
            "timeout, stop refused",
            STOP_FAILED,
            f"sagemaker:{STOP}",
            faults=denied(STOP),
            stops=1,
            modes=("worker",),
        ),
        timed_out(
            "execution_timeout before timeout",
            "the limit of 20 min",
            "asked to stop",
            arguments=FIRST_OF_TWO,
            stops=1,
        ),
        Case(
            "execution_timeout of zero is none",
            "Running",
            NEVER_ENDS,
            arguments={"timeout": HOUR, "execution_timeout": timedelta(0)},
            error=TimedOut,
            texts=("the limit of 1 h",),
            stops=1,
        ),
        Case(
            "timeout, but the execution had ended",
            "Success",
            faults=TO_ITS_END,
            arguments=HALF_AN_HOUR,
            error=TimedOut,
            texts=("has ended or is stopping", "Succeeded"),
            stops=2,
        ),
        Case("throttled for some time", "Success", faults=throttled(count=5)),
        refused(
            "poll refused permanently",
            DESCRIBE,
            "asked to stop",
            state="Running",
            stops=1,
        ),
    ],
    "stop": [
        Case("Stopped", "Cancelled", stops=1),
        Case("Succeeded before", "Success", begins=40 * MINUTE, modes=DEFERRED),
        Case(
            "Succeeded before, fail_if_not_running",
            None,
            begins=40 * MINUTE,
            arguments=IF_RUNNING,
            error=exceptions.PipelineExecutionError,
            texts=("had already ended", "Succeeded"),
            modes=DEFERRED,
        ),
        Case("Failed before", "Failed", FAILED_STEP, begins=HOUR, modes=DEFERRED),
        Case(
            "delayed by a callback step",
            None,
            begins=2 * MINUTE,
            arguments=CALLBACK,
            error=TimedOut,
            texts=("may still be running", "Stopping"),
            stops=1,
        ),
        refused(
            "poll refused permanently",
            DESCRIBE,
            "may still be running",
            faults=denied(DESCRIBE, skip=1),
            stops=1,
        ),
        refused("stop refused permanently", STOP, stops=1, modes=DEFERRED),
    ],
    "sensor": [
        Case("Succeeded", "Success", begins=600),
        Case("Succeeded before", "Success", modes=DEFERRED),
        failed("Failed", FAILURE, STEP_FAILED, begins=600),
        stopped("Stopped", "was stopped", begins=600, after=900),
        skipped("Stopped, skip", begins=600, after=900),
        timed_out(
            "timeout of the execution",
            LATE,
            "the limit of 1 h",
            "has not stopped it",
            begins=600,
        ),
        Case(
            "timeout of the search",
            None,
            begins=None,
            arguments=AN_HOUR,
            error=TimedOut,
            texts=NOT_FOUND_TEXTS,
        ),
        Case(
            "execution deleted",
            "Running",
            begins=600,
            error=Refused,
            texts=("no such execution", "has not stopped it"),
            **UNTIL_DELETED,
        ),
    ],
    "sensor of a step": [
        Case("succeeds", "Running", NEVER_ENDS, arguments=SHARD0),
        failed(
            "fails",
            "Step Shard3 of pipeline fanout failed",
            REASON,
            "Console: https://",
            arguments=SHARD3,
        ),
        stopped(
            "is stopped",
            "Step Merge of pipeline fanout was stopped",
            scenario=NEVER_ENDS,
            after=HOUR,
            arguments=MERGE,
            modes=DEFERRED,
        ),
    ],
}


@pytest.mark.parametrize(
    ("subject", "case"),
    [
        pytest.param(subject, case, id=f"{subject}: {case.name}")
        for subject, cases in CASES.items()
        for case in cases
    ],
)
def test_outcome_is_the_same_in_all_modes(
    subject: str,
    case: Case,
    world: World,
    airflow_time: EmulatedTime,  # noqa: F811
) -> None:
    """Result, XComs, error, log and calls are those of the row, except for polls."""
    runs = run_in_modes(subject, case, world)

    for mode, run in runs.items():
        assert type(run.error) is (case.error or type(None)), (mode, run.error)
        for text in case.texts:
            assert text in str(run.error), mode
        if subject == "stop":
            assert run.result == case.state
            # The task must not wait for an execution that has ended.
            if case.begins and case.error is not TimedOut:
                assert run.trigger is None
            continue
        assert run.xcoms.get("state") == case.state, mode
        if case.error is None:
            assert run.result == run.xcoms["execution_arn"] == world.log.arns[-1]
            assert run.xcoms["run"]["pipeline_name"] == "fanout"
            assert "Shard0" in {row["name"] for row in run.xcoms["steps"]}
        if case.state:
            assert run.xcoms["run"]["state"] == case.state
            assert "console.aws.amazon.com" in run.xcoms["console_url"]
    if len(runs) > 1 and case.begins is not None:
        assert runs["deferrable"].trigger is not None


@pytest.mark.parametrize("mode", OPERATOR_MODES)
def test_task_without_wait_returns_at_once(mode: str, world: World) -> None:
    """With ``wait_for_completion=False``, it neither defers nor sleeps."""
    case = Case("", "Running", arguments={"wait_for_completion": False})
    started = run_start(case, mode, world)
    slept = list(world.time.slept)
    world.time.slept.clear()

    stopped = SUBJECTS["stop"][0](case, mode, world)

    assert started.result == world.log.arns[0]
    assert stopped.result == "Running"
    assert (started.trigger, stopped.trigger) == (None, None)
    # The test itself lets five minutes pass before the stop.
    assert (slept, world.time.slept) == ([], [5 * MINUTE])


def test_execution_stopped_by_a_user_does_not_use_retries() -> None:
    """
    The error of ``on_cancelled="fail"`` is an AirflowFailException and a
    PipelineExecutionCancelledError.
    """
    assert issubclass(Cancelled, AirflowFailException)
    assert not issubclass(
        exceptions.PipelineExecutionCancelledError, AirflowFailException
    )


def test_changes_of_the_status_are_logged_once(world: World) -> None:
    """
    A wait of many polls logs one line per change; the first one, and warnings, name the
    pipeline and the ARN.
    """
    statuses = [{"status": "Pausing", "after": 100, "until": 400}]
    world.control.put_scenario({"statuses": statuses})

    with capture_logs() as logs:
        case = Case("", "Success", arguments={"poll_interval": 30})
        arn = run_start(case, "worker", world).result

    lines = [f"{e['log_level']}: {e['event']}".replace(arn, "ARN") for e in logs]
    label = "Pipeline fanout, execution ARN"
    assert [line for line in lines if label in line or " -> " in line][:5] == [
        f"info: Executing: {label}",
        "info: Executing -> Pausing",
        "warning: Status 'Pausing' is unknown to this version; the wait goes on, until"
        f" the timeout at the latest: {label}",
        "info: Pausing -> Executing",
        "info: Executing -> Succeeded",
    ]
