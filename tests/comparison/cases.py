"""
The test cases: preparation of the environment, arguments of the operators, and further
observations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.comparison.environment import (
    CONNECTION_KEY_ID,
    HOST_KEY_ID,
    INTERVAL,
    SECRET,
    Environment,
    KilledError,
)
from tests.comparison.outcome import Outcome

STEP_REASON = "AlgorithmError: no data in shard 3"

Preparation = Callable[[Environment], None]
Observation = Callable[[Environment, Outcome], str]


def scenario(**members: Any) -> Preparation:
    """Return a preparation that sets the emulator's scenario."""
    return lambda environment: environment.emulator.control.put_scenario(members)


def fault(
    kind: str, operation: str = "DescribePipelineExecution", **members: Any
) -> Preparation:
    """Return a preparation that adds a fault to calls of an operation."""

    def prepare(environment: Environment) -> None:
        environment.emulator.control.add_fault(kind, operation, **members)

    return prepare


def stopped_by_another_user(environment: Environment) -> None:
    """Stop the execution after three polls, with a client that is not the task's."""

    def stop() -> None:
        execution = environment.execution("fanout")
        assert execution
        environment.client.stop_pipeline_execution(
            PipelineExecutionArn=execution["PipelineExecutionArn"]
        )

    environment.clock.after(3 * INTERVAL, stop)


def killed(environment: Environment) -> None:
    """Kill the task after three polls."""

    def kill() -> None:
        raise KilledError

    environment.clock.after(3 * INTERVAL, kill)


def reason_in_message(_: Environment, outcome: Outcome) -> str:
    """Return whether the task's error message has the step's failure reason."""
    return f"failure reason of the step in the message: {_yes(STEP_REASON in str(outcome.error))}"


def calls_sent(environment: Environment, _: Outcome) -> str:
    """Return the number of calls that reached AWS."""
    return f"calls to AWS: {len(environment.emulator.control.calls())}"


def rejected_requests(environment: Environment, _: Outcome) -> str:
    """
    Return the number of requests with an error response, including botocore's retries.
    """
    rejected = [
        call for call in environment.emulator.control.calls() if call["error_code"]
    ]
    return f"requests with an error response: {len(rejected)}"


def credentials_used(environment: Environment, _: Outcome) -> str:
    """Return whether the credentials of the connection or of the host were used."""
    names = {CONNECTION_KEY_ID: "the connection's", HOST_KEY_ID: "the host's"}
    keys = {call["access_key_id"] for call in environment.emulator.control.calls()}
    return f"credentials used: {', '.join(sorted(names.get(key, key) for key in keys)) or 'none'}"


def polls_made(environment: Environment, outcome: Outcome) -> str:
    """Return whether the task was deferred, and the number of polls."""
    return f"deferred: {_yes(outcome.deferred)}, polls: {environment.clock.polls}"


def stops_sent(environment: Environment, _: Outcome) -> str:
    """Return the number of stop requests."""
    return f"stop requests: {len(environment.emulator.control.calls('StopPipelineExecution'))}"


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


@dataclass(frozen=True)
class Case:
    """
    A test case.

    :param name: the name in the table.
    :param preparations: functions that prepare the environment.
    :param ours: arguments of this provider's operator.
    :param amazon: arguments of the amazon provider's operator.
    :param observations: functions that return observations besides the outcome.
    :param both: arguments of both operators.
    :param stop_after: for a test case of the Stop operator: seconds between the start
        of the execution and the stop.
    :param pipeline: the name of the pipeline.
    :param parameters: the pipeline parameters in a test case of the Stop operator.
    :param host: environment variables of the host.
    """

    name: str
    preparations: tuple[Preparation, ...] = ()
    ours: dict[str, Any] = field(default_factory=dict)
    amazon: dict[str, Any] = field(default_factory=dict)
    observations: tuple[Observation, ...] = ()
    both: dict[str, Any] = field(default_factory=dict)
    stop_after: float | None = None
    pipeline: str = "fanout"
    parameters: dict[str, str] = field(default_factory=dict)
    host: dict[str, str] = field(default_factory=dict)


FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": STEP_REASON}}}}
ENDLESS = scenario(steps={"Merge": {"duration": None}})
RUN_ID = "scheduled__2026-01-01T00:00:00+00:00"
HOUR = 3600
# A stop after this many seconds comes too late: the last step ends 12 s later, before
# the stop interrupts it.
JUST_BEFORE_THE_END = 470

CASES = [
    Case("Succeeded"),
    Case(
        "Failed, with a failure reason of a step",
        (scenario(**FAILED_STEP),),
        observations=(reason_in_message,),
    ),
    Case("Stopped by another user", (stopped_by_another_user,)),
    Case(
        "CompletedWithFailures",
        (scenario(end_as="CompletedWithFailures", **FAILED_STEP),),
        observations=(reason_in_message,),
    ),
    Case(
        "status `Pausing`, which neither provider knows, for three minutes",
        (scenario(statuses=[{"status": "Pausing", "after": 50, "until": 230}]),),
    ),
    Case(
        "polls throttled for twenty minutes",
        (fault("throttle", seconds=20.5 * INTERVAL),),
        observations=(rejected_requests,),
    ),
    Case(
        "polls rejected with ExpiredTokenException for three minutes",
        (
            fault(
                "error",
                code="ExpiredTokenException",
                message="expired",
                seconds=3.5 * INTERVAL,
            ),
        ),
        observations=(rejected_requests,),
    ),
    Case(
        "ListPipelineExecutionSteps denied",
        (
            fault(
                "error",
                "ListPipelineExecutionSteps",
                code="AccessDeniedException",
                message="not you",
            ),
        ),
    ),
    Case(
        "endless execution, ours `timeout=1800`, amazon `waiter_max_attempts=30`",
        (ENDLESS,),
        {"timeout": 30 * INTERVAL},
        {"waiter_max_attempts": 30},
    ),
    Case(
        "endless execution, `execution_timeout` of 40 minutes",
        (ENDLESS,),
        both={"execution_timeout": timedelta(minutes=40)},
    ),
    Case(
        "endless execution, ended by a user after three minutes (`on_kill` of the operator or the trigger)",
        (ENDLESS, killed),
    ),
    Case(
        "`wait_for_completion=False`, `deferrable` False or True",
        (ENDLESS,),
        both={"wait_for_completion": False},
        observations=(polls_made,),
    ),
    Case(
        "display name is the run id",
        (),
        {"execution_display_name": RUN_ID},
        {"display_name": RUN_ID},
        (calls_sent,),
    ),
    Case(
        "a parameter is None",
        (),
        {"pipeline_parameters": {"Shards": None}},
        {"pipeline_params": {"Shards": None}},
        (calls_sent,),
    ),
    Case(
        "a parameter is the number 5",
        (),
        {"pipeline_parameters": {"Shards": 5}},
        {"pipeline_params": {"Shards": 5}},
        (calls_sent,),
    ),
    Case(
        "connection does not exist, host has credentials",
        (),
        {"polysync_conn_id": "does_not_exist"},
        {"aws_conn_id": "does_not_exist"},
        (credentials_used,),
        host={
            "AWS_ACCESS_KEY_ID": HOST_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
    Case("Stop: execution runs", stop_after=300, observations=(stops_sent,)),
    Case(
        "Stop: execution already Succeeded", stop_after=HOUR, observations=(stops_sent,)
    ),
    Case(
        "Stop: execution already Succeeded, `fail_if_not_running`",
        both={"fail_if_not_running": True},
        stop_after=HOUR,
    ),
    Case(
        "Stop: ConflictException three times",
        (
            fault(
                "error",
                "StopPipelineExecution",
                code="ConflictException",
                message="busy",
                count=3,
            ),
        ),
        observations=(stops_sent,),
        stop_after=300,
    ),
    Case("Stop: execution ends as Succeeded meanwhile", stop_after=JUST_BEFORE_THE_END),
    Case(
        "Stop: execution ends as Failed meanwhile",
        (scenario(steps={"Merge": {"fail": {"reason": STEP_REASON}}}),),
        stop_after=JUST_BEFORE_THE_END,
    ),
    Case(
        "Stop: delayed by a callback step, ours `timeout=1800`, amazon `waiter_max_attempts=30`",
        (),
        {"timeout": 30 * INTERVAL},
        {"waiter_max_attempts": 30},
        stop_after=300,
        pipeline="callback-lambda",
        parameters={"Approver": "me"},
    ),
]
