"""
Twenty executions run at once, and share a queue that lets a message be received five
times.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import moto.sqs.models
import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from polysync_airflow.execution import clock
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncCallbackStepOperator
from polysync_airflow.operators import callback_messages as messages
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.server.moto_app import Moto
from tests.fakes import quick_clients
from tests.tasks import EmulatedTime, TaskInstance, fire, run_task
from tests.unit.operators.callback.conftest import BEGINS_AFTER, STEP, SUCCESS, Pipeline

COUNT, PROCESSES, MAX_RECEIVES = 20, 3, 5
# What forks the workers. The executions are its arguments.
WORKERS = "from tests.fuzz.test_parallel_callbacks import work; work()"


class Executions(Pipeline):
    """
    Executions of the example pipeline, of which each has another ticket.

    :param arns: the executions. That at index 7 has the ticket ``T-7``.
    """

    def __init__(self, emulator: EmulatorServer) -> None:
        super().__init__(emulator, EmulatedTime(emulator))
        self.stop()
        self.create_queue(MAX_RECEIVES)
        self.arns: list[str] = []
        for number in range(COUNT):
            self.start(Notify={"outputs": {"ticket": f"T-{number}"}})
            self.arns.append(self.arn)

    def check(self, reports: Sequence[Any]) -> None:
        """
        Check that each step was answered once, with its own ticket, and that no message
        is left.

        :param reports: for each execution, the result of its task and the tickets with
            which it called the function.
        """
        results = [{"ok": f"yes to T-{number}"} for number in range(COUNT)]
        assert list(reports) == [
            [result, [f"T-{number}"]] for number, result in enumerate(results)
        ]
        assert Counter(map(repr, self.answers())) == Counter(
            repr((SUCCESS, result)) for result in results
        )
        assert (self.messages(), self.messages("dead")) == ([], [])
        # About ten of each task, most of them while others have the messages.
        assert len(self.emulator.control.calls("ReceiveMessage")) < COUNT * 30


@pytest.fixture
def executions(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Executions:
    """
    Start the executions. The queue hands out messages in the order in which they were
    sent.
    """
    lock, call = Lock(), Moto.__call__

    def call_locked(*arguments: Any) -> Any:
        with lock:
            return call(*arguments)

    # moto's queues are not made for several threads; those of SQS are.
    monkeypatch.setattr(Moto, "__call__", call_locked)
    make_quick(monkeypatch)
    return Executions(emulator)


@pytest.fixture
def any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue hand out messages in any order."""
    # The stubs have no properties.
    messages_of: Any = moto.sqs.models.Queue.messages
    seed = random.Random(7)

    def shuffled(queue: Any) -> list[Any]:
        found: list[Any] = messages_of.fget(queue)
        return seed.sample(found, len(found))

    monkeypatch.setattr(moto.sqs.models.Queue, "messages", property(shuffled))


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Let tasks look for messages often."""
    patch.setattr(messages, "POLL_SECONDS", 0)
    patch.setattr(messages, "PAUSE_SECONDS", (0.5,))


def make_task(
    arn: str, **arguments: Any
) -> tuple[PolysyncCallbackStepOperator, list[str]]:
    """
    Return a task that answers the step of an execution, and the list of the calls of
    its function.
    """
    tickets: list[str] = []

    def approve(ticket: str) -> dict[str, str]:
        tickets.append(ticket)
        return {"ok": f"yes to {ticket}"}

    task = PolysyncCallbackStepOperator(
        task_id=f"answer_{arn[-12:]}",
        execution_arn=arn,
        step_name=STEP,
        python_callable=approve,
        poll_interval=10,
        **arguments,
    )
    return task, tickets


def answer(arn: str) -> list[Any]:
    """Answer the step of an execution on a worker."""
    task, tickets = make_task(arn)
    run = run_task(task)
    assert run.error is None, run.error
    return [run.result, tickets]


def at_once(call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call a function for all items at the same time."""
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(call, items))


@pytest.mark.nightly
@pytest.mark.usefixtures("any_order")
def test_deferred(executions: Executions) -> None:
    """The tasks wait in one triggerer, and go on at the same time."""
    tasks = [make_task(arn, deferrable=True) for arn in executions.arns]
    contexts = [TaskInstance(task.task_id).context(task) for task, _ in tasks]
    triggers: list[Any] = []

    async def run_triggers() -> list[Any]:
        return await asyncio.gather(*(fire(*trigger) for trigger in triggers))

    with clock.replaced_by(executions.time):
        for (task, _), context in zip(tasks, contexts, strict=True):
            with pytest.raises(TaskDeferred) as deferred:
                task.execute(context)
            triggers.append(deferred.value.trigger.serialize())
        events = asyncio.run(run_triggers())

    def go_on(number: int) -> list[Any]:
        task, tickets = tasks[number]
        return [task.execute_complete(contexts[number], events[number]), tickets]

    executions.check(at_once(go_on, range(COUNT)))


def work() -> None:
    """
    Answer the steps of the executions that are the arguments of this process, in three
    processes that it forks.
    """
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        quick_clients.install(patch)
        # What is read now is not read by each process.
        hook = PolysyncSageMakerHook()
        assert hook.conn, hook.client_for("sqs")
        for number in range(PROCESSES):
            if os.fork() == 0:
                reports = at_once(answer, sys.argv[1 + number :: PROCESSES])
                os.write(1, json.dumps([number, reports]).encode() + b"\n")
                os._exit(0)
        for _ in range(PROCESSES):
            os.wait()


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("any_order")
def test_three_workers(executions: Executions) -> None:
    """Processes share nothing but the queue."""
    executions.time.sleep(BEGINS_AFTER)

    command = [sys.executable, "-c", WORKERS, *executions.arns]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)

    by_process = dict(
        json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")
    )
    assert by_process.keys() == set(range(PROCESSES)), done.stdout
    executions.check([by_process[n % PROCESSES][n // PROCESSES] for n in range(COUNT)])
