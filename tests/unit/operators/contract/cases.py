"""
The tasks of the contract: how each kind is run in each mode, and what of it must be the
same in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.records.keys import RECORD_KEY
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import Run, run_task
from tests.unit.sensors.sessions import (
    MODES,
    at,
    make_sensor,
    run_sensor,
    start_execution,
    stop_execution,
)
from tests.world import DESCRIBE, LIST, START, STOP, World

MINUTE = 60.0
HOUR = 3600.0
OPERATOR_MODES = ("worker", "deferrable")


@dataclass
class Case:
    """
    One row of the contract.

    :param name: the test id.
    :param state: the XCom ``state`` at the end; None if there is none.
    :param scenario: of the execution.
    :param faults: of AWS: the kind, the operation and its members.
    :param arguments: of the task.
    :param begins: the seconds after which the execution is started for a sensor, or
        that it has run when it is to be stopped; None for never.
    :param stopped_after: the seconds after which somebody stops the execution.
    :param error: the type of the error that ends the task; None if it succeeds.
    :param texts: texts that the error contains.
    :param stops: the number of StopPipelineExecution calls of the task.
    :param modes: in which it is run; None for all modes of the task.
    """

    name: str
    state: str | None
    scenario: dict[str, Any] = field(default_factory=dict)
    faults: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    begins: float | None = 0
    stopped_after: float | None = None
    error: type[BaseException] | None = None
    texts: tuple[str, ...] = ()
    stops: int = 0
    modes: tuple[str, ...] | None = None


def prepare(case: Case, world: World) -> None:
    """Let AWS behave as a case says, from now on."""
    world.control.reset()
    world.time.at.clear()
    world.control.put_scenario(case.scenario)
    for kind, operation, members in case.faults:
        world.control.add_fault(kind, operation, **members)


def run_start(case: Case, mode: str, world: World) -> Run:
    """Run a task that starts an execution."""
    if case.stopped_after:
        world.time.after(case.stopped_after, lambda: stop_execution(world.log.arns[-1]))
    # The modes list the steps at other times than each other.
    arguments = {"poll_interval": 120, "progress_interval": None, **case.arguments}
    operator = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        deferrable=mode == "deferrable",
        **arguments,
    )
    return run_task(operator)


def run_stop(case: Case, mode: str, world: World) -> Run:
    """Run a task that stops an execution."""
    arguments = dict(case.arguments)
    pipeline = arguments.pop("pipeline", "fanout")
    parameters = {"Approver": "me"} if pipeline == "callback-lambda" else {}
    arn = start_execution(pipeline, **parameters)
    world.time.sleep(case.begins or 5 * MINUTE)
    operator = PolysyncStopPipelineOperator(
        task_id="stop",
        execution_arn=arn,
        deferrable=mode == "deferrable",
        poll_interval=60,
        **arguments,
    )
    return run_task(operator)


def run_search(case: Case, mode: str, world: World) -> Run:
    """Run a sensor that looks for an execution, which somebody starts."""
    created_after = at(world.time.time() - 1)
    if case.begins == 0:
        start_execution()
    elif case.begins is not None:
        world.time.after(case.begins, start_execution)
    if case.stopped_after:
        world.time.after(case.stopped_after, lambda: stop_execution(world.log.arns[-1]))
    arguments = {"poke_interval": 300, **case.arguments}
    return run_sensor(
        make_sensor(
            mode, pipeline_name="fanout", created_after=created_after, **arguments
        )
    )


def run_step_sensor(case: Case, mode: str, world: World) -> Run:
    """Run a sensor that waits for a step of an execution."""
    arn = start_execution()
    if case.stopped_after:
        world.time.after(case.stopped_after, lambda: stop_execution(arn))
    return run_sensor(
        make_sensor(mode, execution_arn=arn, poke_interval=300, **case.arguments)
    )


RunCase = Callable[[Case, str, World], Run]
# How a kind of task is run, in which modes, and who requests the stops that are counted.
SUBJECTS: dict[str, tuple[RunCase, tuple[str, ...]]] = {
    "start": (run_start, OPERATOR_MODES),
    "stop": (run_stop, OPERATOR_MODES),
    "sensor": (run_search, tuple(MODES)),
    "sensor of a step": (run_step_sensor, tuple(MODES)),
}


def run_in_modes(subject: str, case: Case, world: World) -> dict[str, Run]:
    """Run a case in its modes; assert that each ends in the same way."""
    run, modes = SUBJECTS[subject]
    runs: dict[str, Run] = {}
    seen: dict[str, Any] = {}
    for mode in case.modes or modes:
        prepare(case, world)
        with capture_logs() as logs:
            runs[mode] = run(case, mode, world)
        if subject == "stop" and case.state:
            lines = " ".join(texts_of(logs, "info"))
            assert ("Stop requested: execution arn" in lines) == case.stops
            assert "(AWS status " in lines
        seen[mode] = comparable(runs[mode])
        if modes == OPERATOR_MODES:
            seen[mode] += (*comparable_log(logs), *calls_without_polls(world))
        stops = len(world.calls(STOP)) - bool(case.stopped_after)
        assert stops == case.stops, mode
        assert len(world.calls(START)) == (case.begins is not None), mode
    first, *others = seen.values()
    for other in others:
        assert other == first
    return runs


SENSED = ("state", "run", "outputs", "console_url", "execution_arn")


def comparable(run: Run) -> tuple[str, ...]:
    """Return what must be the same in all modes."""
    # The record has a random client token and a signature.
    xcoms = {key: value for key, value in run.xcoms.items() if key != RECORD_KEY}
    if run.ti.task_id == "wait":
        xcoms = {key: run.xcoms.get(key) for key in SENSED}
    text = repr((type(run.error), str(run.error), run.result, xcoms))
    text = re.sub(r"execution/[a-z0-9]{12}", "execution/ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[^', ]*", "TIME", text)
    # At the end of a wait, the triggerer stops the execution before the worker can.
    text = re.sub(r"'process': '\w+'", "PROCESS", text)
    text = re.sub(
        r"( by| when) the triggerer( asked for it)?, at [-0-9: ]* UTC", "", text
    )
    # The modes begin their polls at other moments.
    text = re.sub(r"'parameters': {[^}]*}", "PARAMETERS", text)
    if run.error is None:
        text = re.sub(r"after \d+ s|'seconds': [\d.]+", "SECONDS", text)
    return (text,)


def comparable_log(logs: list[Any]) -> list[str]:
    """Return the log lines that are the same in both modes."""
    lines = [f"{entry['log_level']}: {entry['event']}" for entry in logs]
    lines = [re.sub(r"execution/[a-z0-9]{12}", "execution/ID", line) for line in lines]
    # Which changes of the status are seen depends on the times of the polls, and a
    # deferred task does not log a short outage. What a triggerer says of its stop is in
    # the error of the task.
    other = (
        r"info: \w+( -> \w+$|: Pipeline )|\w+: Polls? (failed|succeed)"
        r"|warning: The wait has ended before the execution"
    )
    return [line for line in lines if not re.match(other, line)]


def calls_without_polls(world: World) -> list[str]:
    """Return the calls that are the same in both modes."""
    return [each for each in world.calls() if each not in (DESCRIBE, LIST)]
