"""Owns the rows: how the world is, what each operator is told, and what to look at besides the ending."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.comparison.outcome import Outcome
from tests.comparison.world import INTERVAL, KEY_OF_CONNECTION, KEY_OF_HOST, SECRET, KilledError, World

STEP_REASON = "AlgorithmError: no data in shard 3"

Stage = Callable[[World], None]
Fact = Callable[[World, Outcome], str]


def scenario(**members: Any) -> Stage:
    """Set how executions go."""
    return lambda world: world.emulator.control.put_scenario(members)


def fault(kind: str, operation: str = "DescribePipelineExecution", **members: Any) -> Stage:
    """Set how calls go wrong."""

    def stage(world: World) -> None:
        world.emulator.control.add_fault(kind, operation, **members)

    return stage


def stopped_by_somebody(world: World) -> None:
    """Stop whatever runs, by other hands, after three looks."""

    def stop() -> None:
        execution = world.execution("fanout")
        assert execution
        world.client.stop_pipeline_execution(PipelineExecutionArn=execution["PipelineExecutionArn"])

    world.clock.after(3 * INTERVAL, stop)


def killed(world: World) -> None:
    """Kill the task after three looks."""

    def kill() -> None:
        raise KilledError

    world.clock.after(3 * INTERVAL, kill)


def names_the_reason(_: World, outcome: Outcome) -> str:
    """Tell whether the task's error says why the step failed."""
    return f"step's own reason in the message: {_yes(STEP_REASON in str(outcome.error))}"


def calls_made(world: World, _: Outcome) -> str:
    """Tell how many calls reached AWS."""
    return f"calls to AWS: {len(world.emulator.control.calls())}"


def refusals(world: World, _: Outcome) -> str:
    """Tell how many requests were refused, botocore's own retries included."""
    refused = [call for call in world.emulator.control.calls() if call["error_code"]]
    return f"refused requests: {len(refused)}"


def signed_with(world: World, _: Outcome) -> str:
    """Tell whose credentials were used."""
    names = {KEY_OF_CONNECTION: "the connection's", KEY_OF_HOST: "the host's"}
    keys = {call["access_key_id"] for call in world.emulator.control.calls()}
    return f"credentials used: {', '.join(sorted(names.get(key, key) for key in keys)) or 'none'}"


def waited(world: World, outcome: Outcome) -> str:
    """Tell whether and how the task waited."""
    return f"deferred: {_yes(outcome.deferred)}, looks waited for: {world.clock.looks}"


def stops_sent(world: World, _: Outcome) -> str:
    """Tell how often a stop was asked for."""
    return f"stop requests: {len(world.emulator.control.calls('StopPipelineExecution'))}"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


@dataclass(frozen=True)
class Row:
    """One row: how the world is, what each operator is told, what to look at besides the ending.

    A row with ``stop_after`` is about a stop, so many seconds after the start.
    """

    name: str
    stages: tuple[Stage, ...] = ()
    ours: dict[str, Any] = field(default_factory=dict)
    amazon: dict[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    both: dict[str, Any] = field(default_factory=dict)
    stop_after: float | None = None
    pipeline: str = "fanout"
    parameters: dict[str, str] = field(default_factory=dict)
    host: dict[str, str] = field(default_factory=dict)


FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": STEP_REASON}}}}
ENDLESS = scenario(steps={"Merge": {"duration": None}})
RUN_ID = "scheduled__2026-01-01T00:00:00+00:00"
HOUR = 3600
# The last step ends 12 s after a stop this late, sooner than a stop interrupts it.
JUST_BEFORE_THE_END = 470

ROWS = [
    Row("Succeeded"),
    Row("Failed, a step has its own reason", (scenario(**FAILED_STEP),), facts=(names_the_reason,)),
    Row("Stopped by somebody else", (stopped_by_somebody,)),
    Row(
        "CompletedWithFailures",
        (scenario(end_as="CompletedWithFailures", **FAILED_STEP),),
        facts=(names_the_reason,),
    ),
    Row(
        "status `Pausing`, unknown to both, for three minutes",
        (scenario(statuses=[{"status": "Pausing", "after": 50, "until": 230}]),),
    ),
    Row(
        "looks throttled for twenty minutes",
        (fault("throttle", seconds=20.5 * INTERVAL),),
        facts=(refusals,),
    ),
    Row(
        "looks refused for three minutes: ExpiredTokenException",
        (fault("error", code="ExpiredTokenException", message="expired", seconds=3.5 * INTERVAL),),
        facts=(refusals,),
    ),
    Row(
        "ListPipelineExecutionSteps not permitted",
        (fault("error", "ListPipelineExecutionSteps", code="AccessDeniedException", message="not you"),),
    ),
    Row(
        "endless, ours `timeout=1800`, amazon `waiter_max_attempts=30`",
        (ENDLESS,),
        {"timeout": 30 * INTERVAL},
        {"waiter_max_attempts": 30},
    ),
    Row(
        "endless, `execution_timeout` of 40 minutes",
        (ENDLESS,),
        both={"execution_timeout": timedelta(minutes=40)},
    ),
    Row("endless, killed after three minutes (`on_kill` of operator or trigger)", (ENDLESS, killed)),
    Row(
        "`wait_for_completion=False`, `deferrable` False or True",
        (ENDLESS,),
        both={"wait_for_completion": False},
        facts=(waited,),
    ),
    Row(
        "display name is the run id",
        (),
        {"execution_display_name": RUN_ID},
        {"display_name": RUN_ID},
        (calls_made,),
    ),
    Row(
        "a parameter is None",
        (),
        {"pipeline_parameters": {"Shards": None}},
        {"pipeline_params": {"Shards": None}},
        (calls_made,),
    ),
    Row(
        "a parameter is the number 5",
        (),
        {"pipeline_parameters": {"Shards": 5}},
        {"pipeline_params": {"Shards": 5}},
        (calls_made,),
    ),
    Row(
        "connection missing, host has credentials",
        (),
        {"polysync_conn_id": "nobody_made_this"},
        {"aws_conn_id": "nobody_made_this"},
        (signed_with,),
        host={
            "AWS_ACCESS_KEY_ID": KEY_OF_HOST,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    ),
    Row("Stop: running", stop_after=300, facts=(stops_sent,)),
    Row("Stop: had Succeeded already", stop_after=HOUR, facts=(stops_sent,)),
    Row(
        "Stop: had Succeeded already, `fail_if_not_running`",
        both={"fail_if_not_running": True},
        stop_after=HOUR,
    ),
    Row(
        "Stop: ConflictException three times",
        (fault("error", "StopPipelineExecution", code="ConflictException", message="busy", count=3),),
        facts=(stops_sent,),
        stop_after=300,
    ),
    Row("Stop: ends Succeeded meanwhile", stop_after=JUST_BEFORE_THE_END),
    Row(
        "Stop: ends Failed meanwhile",
        (scenario(steps={"Merge": {"fail": {"reason": STEP_REASON}}}),),
        stop_after=JUST_BEFORE_THE_END,
    ),
    Row(
        "Stop: held up by a callback step, ours `timeout=1800`, amazon `waiter_max_attempts=30`",
        (),
        {"timeout": 30 * INTERVAL},
        {"waiter_max_attempts": 30},
        stop_after=300,
        pipeline="callback-lambda",
        parameters={"Approver": "me"},
    ),
]
