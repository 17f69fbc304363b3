"""
The poller of step tasks with the emulator: how many calls they take, when they end, and
what they cost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.pipelines import declared_steps
from polysync_airflow.execution.step_clears import CLEAR_KEY
from polysync_airflow.execution.steps.descriptions import fit_rows, rows_of
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.start_in_triggerer import PolysyncStepTaskEndTrigger
from polysync_airflow.triggers import PolysyncStepTaskTrigger, poller
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.fakes.log_capture import capture_logs
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.jobs.catalogue.builders import put_pipelines
from tests.world import DESCRIBE, LIST_STEPS, World

TWENTY = definition(*(step(f"Shard{number}") for number in range(20)))
CHAIN = definition(step("Prepare"), step("Train", "Processing", "Prepare"))


class ExecutionTask:
    """
    The task that is responsible for an execution in the emulator; ``state`` is its
    state in Airflow.

    :param text: the definition of the pipeline.
    :param steps: the scenario of the steps.
    :param scenario: its other members.
    """

    def __init__(
        self,
        emulator: EmulatorServer,
        text: str = CHAIN,
        steps: Any = None,
        **scenario: Any,
    ) -> None:
        self.emulator = emulator
        self.text = text
        self.state: str | None = "deferred"
        put_pipelines(emulator, {"steps": json.loads(text)})
        emulator.control.put_scenario({"steps": steps or {}, **scenario})
        self.client: Any = PolysyncSageMakerHook().conn
        self.ti = TaskInstance("execution", state=lambda: self.state)
        self.arn = ""
        self.start()

    def start(self) -> None:
        """Start an execution, and push it; afterwards, the call log is empty."""
        started = self.client.start_pipeline_execution(PipelineName="steps")
        self.arn = started["PipelineExecutionArn"]
        self.push()

    def push(self, **members: Any) -> None:
        """Push the execution, as a try does when it begins."""
        run = RunSummary(
            execution_arn=self.arn,
            pipeline_name="steps",
            state="Running",
            parameters={},
            **members,
        )
        rows, _ = fit_rows(rows_of((), declared_steps(self.text), self.arn))
        self.ti.xcoms |= {"run": run.model_dump(mode="json"), "steps": rows}
        self.emulator.control.clear_calls()

    def resume(self) -> None:
        """Resume the execution, and push it; afterwards, the call log is empty."""
        request = {"PipelineExecutionArn": self.arn, "ClientRequestToken": "r" * 32}
        self.client.retry_pipeline_execution(**request)
        now = datetime.fromtimestamp(self.emulator.clock.now(), UTC)
        self.push(resumes=1, attempt_started_at=now)

    def steps(self) -> dict[str, Any]:
        """Return AWS's list of the steps by name."""
        list_steps = self.client.list_pipeline_execution_steps
        steps = list_steps(PipelineExecutionArn=self.arn)["PipelineExecutionSteps"]
        return {each["StepName"]: each for each in steps}

    def calls(self, *operations: str) -> list[tuple[str, float]]:
        """Return the calls of AWS, with their times."""
        calls = self.emulator.control.calls()
        found = [(call["operation"], call["time"]) for call in calls]
        return [call for call in found if not operations or call[0] in operations]


def make_trigger(
    step_name: str,
    *,
    trigger_class: type[PolysyncStepTaskTrigger] = PolysyncStepTaskTrigger,
    try_number: int = 1,
    **arguments: Any,
) -> PolysyncStepTaskTrigger:
    """Return the trigger of a step's task."""
    own = {"polysync_conn_id": "polysync_default", "region_name": None}
    own |= {"execution_task_id": "execution", "step_name": step_name}
    trigger = trigger_class(**{**own, "poll_interval": 60.0, **arguments})
    trigger.task_instance = TaskInstance(step_name, try_number=try_number)  # type: ignore[assignment]
    return trigger


async def event_of(trigger: PolysyncStepTaskTrigger) -> Any:
    """Run a trigger, and return its only event."""
    (event,) = [event async for event in trigger.run()]
    return event.payload if type(event).__name__ == "TriggerEvent" else event


def events_of(triggers: Sequence[PolysyncStepTaskTrigger]) -> list[Any]:
    """Run triggers in one event loop; return the event, or the error, of each."""

    async def run() -> list[Any]:
        return [*await asyncio.gather(*map(event_of, triggers), return_exceptions=True)]

    return asyncio.run(run())


def outcomes(events: Sequence[Any]) -> list[str]:
    """Return the outcomes of the events."""
    return [event["outcome"] for event in events]


# ---- how many calls


def test_twenty_tasks_share_their_calls(world: World) -> None:
    """
    They list the steps once in each poll interval, and describe the execution when no
    step runs.
    """
    task = ExecutionTask(world.emulator, TWENTY, {"Shard19": {"duration": 900}})
    world.time.sleep(30)

    events = events_of([make_trigger(f"Shard{number}") for number in range(20)])

    *lists, _ = [at for _, at in task.calls(LIST_STEPS)]
    assert outcomes(events) == 20 * ["success"]
    assert len(lists) > 10
    assert min(later - before for before, later in itertools.pairwise(lists)) >= 60.0
    # After the list in which all steps have ended.
    operations = [operation for operation, _ in task.calls()]
    assert operations[-3:] == [LIST_STEPS, DESCRIBE, LIST_STEPS]
    assert Counter(operations) == {LIST_STEPS: len(lists) + 1, DESCRIBE: 1}


def test_execution_is_described_when_no_step_runs(world: World) -> None:
    """Between two steps, too: AWS's list does not say whether more of them follow."""
    task = ExecutionTask(world.emulator, step_delay=600)
    world.time.sleep(200)

    events_of([make_trigger("Train")])

    prepared = task.steps()["Prepare"]["EndTime"].timestamp()
    began = prepared + 600
    described = [at for _, at in task.calls(DESCRIBE) if at < began]
    between = [at for _, at in task.calls(LIST_STEPS) if prepared <= at < began]
    assert len(between) > 5
    assert described == between


def test_nothing_is_read_from_aws_before_there_is_an_execution(world: World) -> None:
    """And nothing after its end, while the execution task may still resume it."""
    task = ExecutionTask(world.emulator, steps={"Prepare": {"fail": {}}})
    run = task.ti.xcoms.pop("run")
    counts = list[int]()

    def count() -> None:
        counts.append(len(task.calls()))

    def begin() -> None:
        count()
        task.ti.xcoms["run"] = run

    world.time.after(1000, begin)
    # Long after the end of the execution.
    world.time.after(3000, count)
    world.time.after(6000, count)
    world.time.after(6000, lambda: setattr(task, "state", "failed"))

    (event,) = events_of([make_trigger("Train")])

    count()
    text = "AWS has not run step Train: the execution has ended before (status Failed)."
    assert (event["outcome"], event["text"]) == ("failed", text)
    before, *after = counts
    assert before == 0
    assert set(after) == {3}


@pytest.fixture
def frozen(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> threading.Event:
    """An event; while it is set, no wait of a poller lets time pass."""
    stopped = threading.Event()
    timeout = emulated_time.timeout

    def timeout_unless_frozen(seconds: float | None, *, idle: bool) -> float | None:
        return 0.01 if stopped.is_set() else timeout(seconds, idle=idle)

    monkeypatch.setattr(emulated_time, "timeout", timeout_unless_frozen)
    return stopped


@pytest.mark.skipif(
    not CAPABILITIES.start_from_trigger, reason="tasks of this version start on workers"
)
def test_new_task_is_decided_by_the_list_of_the_others(
    world: World, frozen: threading.Event
) -> None:
    """At once, without a call, if no worker has begun it; else at their next list."""
    task = ExecutionTask(world.emulator, steps={"Train": {"duration": None}})
    world.time.sleep(300)

    async def run() -> tuple[Any, Any]:
        others = asyncio.create_task(event_of(make_trigger("Train")))
        world.time.after(100, frozen.set)
        while not frozen.is_set():
            await asyncio.sleep(0.001)
        # A list that has become due with the same step of the time is over.
        await asyncio.sleep(0.05)
        while any(each._calls for each in poller._POLLERS.values()):
            await asyncio.sleep(0.001)
        before = len(task.calls())
        other = make_trigger("Other", trigger_class=PolysyncStepTaskEndTrigger)
        at_once = await event_of(other)
        assert len(task.calls()) == before > 0
        frozen.clear()
        later = await event_of(make_trigger("Prepare"))
        others.cancel()
        await asyncio.wait([others])
        return at_once, later

    at_once, later = asyncio.run(run())

    lists = [at for _, at in task.calls(LIST_STEPS)]
    assert (type(at_once).__name__, later["outcome"]) == ("TaskSkippedEvent", "success")
    assert {later - before for before, later in itertools.pairwise(lists)} == {60.0}


# ---- the confirmation before an end


@pytest.mark.parametrize("has_begun", [False, True], ids=["not begun", "begun"])
def test_failure_is_dropped_if_the_execution_task_was_cleared(
    has_begun: bool, world: World
) -> None:
    """
    The poller knows the earlier execution: it asks Airflow again before the task of a
    step ends.
    """
    failure = {"duration": 600, "fail": {}}
    task = ExecutionTask(world.emulator, steps={"Prepare": failure})
    old = task.arn

    def begin_next_try() -> None:
        world.control.put_scenario({})
        task.start()
        task.state = "deferred"

    # Before the failure, but after the first list.
    if has_begun:
        world.time.after(500, begin_next_try)
    else:
        world.time.after(500, lambda: setattr(task, "state", None))
        world.time.after(2000, begin_next_try)

    (event,) = events_of([make_trigger("Prepare")])

    assert (event["outcome"], event["execution_arn"]) == ("success", task.arn)
    assert task.arn != old


def test_next_attempt_is_seen_before_an_end(world: World) -> None:
    """
    The poller knows the first attempt; between two lists, the execution has failed and
    was resumed.
    """
    fail = {"duration": 30, "fail": {"times": 1}}
    steps = {"Prepare": {"duration": 100}, "Train": fail}
    task = ExecutionTask(world.emulator, steps=steps)
    statuses = list[str]()

    def resume() -> None:
        # ``Train`` has failed, and was not listed since.
        statuses.append(task.steps()["Train"]["StepStatus"])
        task.resume()

    world.time.after(150, resume)

    (event,) = events_of([make_trigger("Train", poll_interval=120.0)])

    assert statuses == ["Failed"]
    assert (event["outcome"], event["row"]["attempt"]) == ("success", 2)


# ---- a clear


def test_task_that_begins_again_leaves_a_note(world: World) -> None:
    """
    Until it sees the execution of the current try, of which it asks Airflow often. A
    task that waits since before the clear leaves none.
    """
    task = ExecutionTask(world.emulator, steps={"Train": {"duration": None}})
    world.time.sleep(300)
    began_at = world.time.time()
    first, again = (make_trigger("Train", try_number=number) for number in (1, 2))
    notes = list[Any]()

    def note() -> None:
        xcoms = [each.task_instance.xcoms for each in (first, again)]  # type: ignore[union-attr]
        notes.append([each.get(CLEAR_KEY) for each in xcoms])

    async def run() -> None:
        waits = [asyncio.create_task(event_of(each)) for each in (first, again)]
        while len(notes) < 3:
            await asyncio.sleep(0.001)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)

    task.state = None
    for seconds, state in ((60, "queued"), (120, "running"), (200, "deferred")):
        world.time.after(seconds, partial(setattr, task, "state", state))
    for seconds in (50, 190, 230):
        world.time.after(seconds, note)
    asyncio.run(run())

    (_, noted_at), *_ = notes
    assert began_at <= noted_at <= began_at + 50
    assert notes == [[None, noted_at], [None, noted_at], [None, None]]


def test_cleared_step_is_not_reported_while_it_is_to_be_repeated(world: World) -> None:
    """What the execution task repeats counts until the execution was resumed."""
    fail = {"fail": {"times": 1}}
    task = ExecutionTask(world.emulator, steps={"Prepare": fail})
    listing = {"execution_arn": task.arn, "epoch": 1, "succeeded": []}
    task.ti.xcoms[CLEAR_KEY] = {**listing, "cleared": ["Prepare"], "resumes": 0}
    world.time.after(2000, task.resume)

    events = events_of([make_trigger("Prepare", try_number=2)])

    assert [event["row"]["attempt"] for event in events] == [2]
    assert outcomes(events) == ["success"]


# ---- what fails


def test_waits_go_on_while_airflow_does_not_respond(
    world: World, simulated_airflow: SimulatedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits go on, and end when it responds again; the log says why they wait."""
    task = ExecutionTask(world.emulator)
    refused = list[float]()
    task_state = simulated_airflow.task_state

    def refuse(*key: Any, **names: Any) -> Any:
        if world.time.time() < until:
            refused.append(world.time.time())
            raise ConnectionError("no API server")
        return task_state(*key, **names)

    until = world.time.time() + 1800
    monkeypatch.setattr(simulated_airflow, "task_state", refuse)

    with capture_logs() as logs:
        events = events_of([make_trigger("Prepare"), make_trigger("Train")])

    assert outcomes(events) == ["success", "success"]
    assert min(at for _, at in task.calls()) >= until
    assert 2 < len(refused) < 60
    assert any("Airflow does not return the state" in line["event"] for line in logs)


# ---- what it costs


def test_waits_take_little_memory(world: World) -> None:
    """
    50 tasks of an execution with 50 steps take at most 1 MiB, with all that is listed
    of it.
    """
    text = definition(*(step(f"Shard{number}") for number in range(50)))
    endless = {f"Shard{number}": {"duration": None} for number in range(50)}
    task = ExecutionTask(world.emulator, text, endless)
    world.time.sleep(60)

    async def measure() -> int:
        # What the first wait alone needs: the client, and the models of its responses.
        waits = [asyncio.create_task(event_of(make_trigger("Shard0")))]
        await listed(3)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            triggers = [make_trigger(f"Shard{each}") for each in range(1, 51)]
            waits += [asyncio.create_task(event_of(each)) for each in triggers]
            await listed(6)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return after - before

    async def listed(times: int) -> None:
        while len(task.calls(LIST_STEPS)) < times:
            await asyncio.sleep(0.001)

    size = asyncio.run(measure())

    assert size <= 2**20
