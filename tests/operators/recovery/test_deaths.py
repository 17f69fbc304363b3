"""Deaths: whenever the process ends without a word, the next try goes on with the same one execution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    LIST_STEPS,
    MERGE_FAILS_ONCE,
    MERGE_FAILS_TWICE,
    RETRY,
    START,
    DeathError,
    Ledger,
    Task,
    Wire,
    attempts,
    die,
    tokens,
)
from tests.tasks import EmulatedTime, StateStore


@dataclass
class Death:
    """
    A moment to die at.

    :param stage: arranges it.
    :param starts: how many StartPipelineExecution calls there are in both tries together.
    """

    name: str
    stage: Callable[[Task, Wire, EmulatedTime], Any]
    starts: int


class DyingStore(StateStore):
    """Stores, and dies after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value, maybe the last one."""
        super().set(key, value, retention=retention)
        self.left -= 1
        if self.left == 0:
            die()


def after_write(number: int) -> Callable[[Task, Wire, EmulatedTime], None]:
    """Die right after a write to the store."""

    def stage(task: Task, _: Wire, __: EmulatedTime) -> None:
        task.store = DyingStore(number)

    return stage


DEATHS = [
    Death("once the request is stored", after_write(1), 1),
    Death("before Start is sent", lambda _, wire, __: wire.before(START, die), 1),
    Death("before Start's answer is read", lambda _, wire, __: wire.after(START, die), 2),
    Death("once the ARN is stored", after_write(2), 1),
    Death("while waiting for the first look", lambda _, __, time: time.after(0, die), 1),
    Death("while waiting", lambda _, __, time: time.after(300, die), 1),
    Death("when it has ended", lambda _, __, time: time.after(600, die), 1),
]


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_one_execution_whenever_the_process_dies(
    death: Death,
    make_task: MakeTask,
    wire: Wire,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The next try comes to the same execution, sends the first try's request byte for byte, and tells of it.

    Its templates give other values, as those that look at the clock do: they are not used.
    """
    task = make_task(poll_interval=3600 if death.name == "when it has ended" else 60)
    death.stage(task, wire, emulated_time)
    first = task.next_try(pipeline_parameters={"Shards": 4}, execution_display_name="first")
    assert isinstance(first.error, DeathError)
    assert task.state == "up_for_retry"

    second = task.next_try(pipeline_parameters={"Shards": 5}, execution_display_name="second")

    assert second.error is None
    sent = [call["request"] for call in emulator.control.calls(START)]
    assert len(sent) == death.starts
    assert sent == death.starts * [sent[0]]
    assert sent[0]["PipelineExecutionDisplayName"] == "first"
    assert sent[0]["PipelineParameters"] == [{"Name": "Shards", "Value": "4"}]
    assert ledger.statuses == ["Succeeded"]
    assert second.result == second.xcoms["execution_arn"] == ledger.arns[0]
    assert second.xcoms["state"] == "Success"
    assert second.xcoms["run"]["parameters"] == {"Shards": "4"}


def test_it_may_die_again_and_again(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Four deaths in a row, at different moments, are still one execution."""
    task = make_task(retries=4)
    wire.before(START, die)
    wire.after(START, die)
    for _ in range(2):
        task.next_try()
    emulated_time.after(60, die)
    task.next_try()
    emulated_time.after(60, die)
    task.next_try()

    last = task.next_try()

    assert last.error is None
    assert ledger.statuses == ["Succeeded"]
    assert len(set(tokens(emulator, START))) == 1


def test_a_task_of_another_version_of_its_dag_is_told_of_as_it_was_sent(
    make_task: MakeTask, wire: Wire, ledger: Ledger
) -> None:
    """If the template of the pipeline's name changes, the execution that runs is of the first one."""
    task = make_task()
    wire.after(START, die)
    task.next_try(pipeline_name="fanout")

    run = task.next_try(pipeline_name="churn-tuning", pipeline_parameters={"InputData": "s3://b/k"})

    assert run.error is None
    assert len(ledger.arns) == 1
    assert run.xcoms["run"]["pipeline_name"] == "fanout"
    assert "#/pipelines/fanout/executions/" in run.xcoms["console_url"]


def test_arguments_that_have_become_illegal_orphan_nothing(
    make_task: MakeTask, ledger: Ledger, emulated_time: EmulatedTime
) -> None:
    """What the next try would start is of no interest while the first try's execution is at hand."""
    task = make_task()
    emulated_time.after(100, die)
    task.next_try()

    run = task.next_try(pipeline_parameters={"Shards": None})

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]


RESUME_DEATHS = [
    Death("before Retry is sent", lambda _, wire, __: wire.before(RETRY, die), 1),
    Death("before Retry's answer is read", lambda _, wire, __: wire.after(RETRY, die), 1),
    Death("while the steps are listed", lambda _, wire, __: wire.before(LIST_STEPS, die), 1),
    Death("while waiting for the resumed one", lambda _, __, time: time.after(100, die), 1),
]


@pytest.mark.parametrize("death", RESUME_DEATHS, ids=lambda death: death.name)
def test_one_resume_whenever_the_process_dies(
    death: Death,
    make_task: MakeTask,
    wire: Wire,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A death around a resume costs neither a second resume nor a second execution."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    death.stage(task, wire, emulated_time)
    assert isinstance(task.next_try().error, DeathError)
    left = task.record

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert run.result == ledger.arns[0]
    assert attempts(ledger.executions[0])["Merge"] == 2
    assert set(tokens(emulator, RETRY)) == {left["resume_token"]}
    assert task.record["resumes"] == left["resumes"] == 1
    assert len(ledger.spans) == 2


def test_a_granted_resume_that_ended_while_nobody_looked_is_adopted(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Retry's answer never came, hours pass until the next try: its result is taken, nothing runs again."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task(retry_mode="resume")
    task.next_try()
    wire.after(RETRY, die)
    task.next_try()
    emulator.control.advance(7200)

    run = task.next_try()

    assert run.error is None
    assert run.xcoms["state"] == "Success"
    assert len(tokens(emulator, RETRY)) == 1


def test_a_granted_resume_that_failed_while_nobody_looked_is_told_of(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The same, but it failed again: that try fails without running anything, and the next one resumes anew."""
    emulator.control.put_scenario(MERGE_FAILS_TWICE)
    task = make_task(retry_mode="resume", retries=3)
    task.next_try()
    wire.after(RETRY, die)
    task.next_try()
    emulator.control.advance(7200)

    assert "AlgorithmError" in str(task.next_try().error)
    assert attempts(ledger.executions[0])["Merge"] == 2
    assert task.next_try().error is None
    assert attempts(ledger.executions[0])["Merge"] == 3


def test_a_task_deferred_behind_another_epochs_execution_may_die_there(
    make_task: MakeTask, ledger: Ledger, emulated_time: EmulatedTime
) -> None:
    """A death while the old execution's end is awaited leaves the next try where it was."""
    task = make_task()
    emulated_time.after(100, die)
    task.next_try()
    task.clear()
    emulated_time.after(3, die)
    assert isinstance(task.next_try().error, DeathError)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1
