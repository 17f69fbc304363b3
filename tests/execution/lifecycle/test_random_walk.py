"""
Random walks over what can happen to a task: the promise, checked on the core alone.
"""

from __future__ import annotations

import itertools
import os
from random import Random

import pytest

from polysync_airflow.execution.lifecycle.instructions import Command, RecoveryChoices
from polysync_airflow.states import DELETED
from tests.execution.lifecycle.world import ALLOWED, Airflow, TryProcess, end_deferred

# For a longer search: POLYSYNC_WALKS=100000.
WALKS = int(os.environ.get("POLYSYNC_WALKS", "1500"))
# For several processes. A block of a longer search takes less time than a test may.
BLOCKS = max(3, WALKS // 5_000)
# Where a process that is frozen does most harm when it goes on.
BEFORE_A_REQUEST = [
    f"sending {each.name}"
    for each in (
        Command.START,
        Command.RESEND_START,
        Command.RESUME,
        Command.RESEND_RESUME,
    )
]
BEFORE_THE_FIRST_WRITE = [
    "before the record is read",
    "when the record is read",
    "before the write for START",
    "before the write that was allowed",
]


class Walk:
    """One task with what happens to it, chosen by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.choices = self._choices()
        self.airflow = self._airflow(random.randint(0, 3))
        self.later_runs = 0
        # Known limit: nobody finds the execution of a deleted DAG run whose record is
        # lost, too.
        self.is_lost = self.is_created_again = False
        self.frozen: list[TryProcess] = []
        # Where processes are often frozen, and how soon they go on.
        self.likely_freezes, self.thaws = random.choice(
            [
                (BEFORE_A_REQUEST, 0.1),
                (BEFORE_A_REQUEST, 0.1),
                (BEFORE_THE_FIRST_WRITE, 0.5),
            ]
        )
        self.clears = random.randint(0, 2)
        # Executions of which nobody knows any more who could stop them.
        self.unknown: set[str] = set()
        # Known limit: without its record, AWS may take the stop of a resumed execution
        # for an earlier one.
        self.stopped_before: set[str] = set()

    def _choices(self) -> RecoveryChoices:
        random = self.random
        return RecoveryChoices(
            retry_mode=random.choice(["new", "resume"]),
            on_clear=random.choice(["new", "resume"]),
            on_completed_with_failures=random.choice(["fail", "succeed"]),
            stop_on_kill=random.random() < 0.85,
        )

    def _airflow(self, retries: int) -> Airflow:
        return Airflow(self.random, self.choices, retries)

    def run(self) -> None:
        """Run the task to its end, and let all that is left of it come to an end."""
        airflow = self.airflow
        while True:
            self.unknown.clear()
            process = airflow.begin_try()
            self._run_try(process)
            died = airflow.history[-2:] == ["crash", "-> failed"]
            is_stopped = died and airflow.stored and not self.is_created_again
            if airflow.state == "failed" and not process.wrote and not is_stopped:
                # Known limits: the last process is ended before it could write
                # anything; or the record is lost, and it ends before it has looked in
                # AWS.
                self.unknown.update(each.arn for each in airflow.running)
            self._between_tries()
            if airflow.state in ("success", "failed"):
                if not self.clears:
                    break
                self.clears -= 1
                self._choose()
                airflow.clear()
        for process in list(self.frozen):
            self._finish(process)

    def _choose(self) -> None:
        """
        A user may choose what the clear does; a process that is left may go on before
        it.
        """
        while self.random.random() < 0.4:
            self.airflow.choose(self.random.choice(["new", "resume", None]))
            if self.frozen and self.random.random() < 0.5:
                self._step_frozen()

    def _between_tries(self) -> None:
        """
        Time passes before the next try, if there is one.

        Not while a process is frozen: it may still send what nobody knows of any more.
        """
        random, airflow = self.random, self.airflow
        while random.random() < 0.2:
            self._run_later_dag_run()
        if self.frozen or airflow.try_number == 0 or airflow.state == "success":
            return
        if random.random() < 0.15 and not self.is_created_again:
            self.is_lost = True
            airflow.lose_record()
            self.stopped_before.update(
                each.arn for each in airflow.aws.executions if each.stops
            )
        if random.random() < 0.2:
            airflow.history.append("tokens forgotten")
            airflow.aws.forget_tokens()
        if random.random() < 0.3:
            airflow.parameter = f"{airflow.parameter}1"

    def _run_later_dag_run(self) -> None:
        """
        The task of a later DAG run starts its execution, and waits for its end: nobody
        else notices.
        """
        before, aws = self.airflow.stored, self.airflow.aws
        self.later_runs += 1
        later = Airflow(self.random, self.choices, 0, f"later{self.later_runs}", aws)
        own = {each.arn for each in aws.executions}
        for step in later.begin_try().steps:
            assert self.airflow.stored == before, (
                f"a later DAG run has changed the record: {step}"
            )
            for each in aws.running:
                if each.arn not in own:
                    each.status = "Succeeded"
        assert later.stored is None or later.state == "failed"

    def _run_try(self, process: TryProcess) -> None:
        for step in process.steps:
            process.at = step
            self.airflow.history.append(step)
            self._check(step)
            self._let_time_pass(step)
            if not self._is_overwritten(process) and not self._disturb(process, step):
                return

    def _let_time_pass(self, step: str) -> None:
        random = self.random
        while random.random() < (0.5 if step == "waiting" else 0.1):
            self.airflow.aws.progress()
            self._check("progress")
        while self.frozen and random.random() < self.thaws:
            self._step_frozen()

    def _is_overwritten(self, process: TryProcess) -> bool:
        """
        Return whether a process that was frozen right before its write has written over
        the record of this one.

        Known limit: if this one does not write again, nobody knows its execution.
        """
        stored = self.airflow.stored
        return bool(process.wrote and stored and stored.try_number < process.number)

    def _disturb(self, process: TryProcess, step: str) -> bool:
        """Let something happen; return False if the process does not go on."""
        airflow = self.airflow
        chance = self.random.random()
        if chance < 0.03:
            self._crash(process)
        elif chance < 0.05:
            self._kill(process)
        elif chance < 0.06:
            self._clear_while_running(process)
        elif chance < 0.07 and not self.frozen and not self.is_lost:
            self._create_again(process)
        elif airflow.try_number <= airflow.max_tries and (
            chance < 0.08 or (chance > 0.85 and step in self.likely_freezes)
        ):
            airflow.history.append("frozen")
            self.frozen.append(process)
            process.is_confirmed = False
            airflow.end_try("up_for_retry")
        elif chance < 0.1 and step == "waiting":
            return self._defer(process)
        elif 0.1 < chance < 0.14:
            (self._evict if chance < 0.13 else self._time_out)(process)
        else:
            return True
        return False

    def _crash(self, process: TryProcess) -> None:
        airflow = self.airflow
        airflow.history.append("crash")
        airflow.fail_or_retry()
        if airflow.state == "failed":
            airflow.run_failure_callback()

    def _kill(self, process: TryProcess) -> None:
        """A user marks the task as failed."""
        self.airflow.end_try("failed")
        process.kill()
        self._finish(process)

    def _evict(self, process: TryProcess) -> None:
        """
        The node is drained: the process receives SIGTERM, and SIGKILL if it still runs
        some time later.
        """
        airflow, stops = self.airflow, self.airflow.aws.stops
        airflow.history.append("evicted")
        process.kill()
        assert airflow.aws.stops == stops, "an eviction stops nothing"
        last_steps = itertools.islice(process.steps, self.random.randrange(8))
        for step in last_steps:
            airflow.history.append(f"{step} of an evicted process")
            self._check(airflow.history[-1])
            if self.random.random() < 0.3:
                airflow.aws.progress()
        if airflow.state == "running":
            self._crash(process)
        if (
            process.now
            and process.now.command is Command.WATCH
            and airflow.state == "up_for_retry"
        ):
            assert airflow.aws.stops == stops, (
                "an eviction leaves the execution to the retry"
            )

    def _time_out(self, process: TryProcess) -> None:
        """
        ``execution_timeout`` passes: Airflow calls ``on_kill`` while the error is on
        its way.
        """
        self.airflow.history.append("execution_timeout")
        process.kill(timed_out=True)
        self.airflow.fail_or_retry()

    def _clear_while_running(self, process: TryProcess) -> None:
        self.airflow.history.append("cleared while running")
        self.airflow.current, self.airflow.state = None, "restarting"
        process.kill()
        self._finish(process)

    def _create_again(self, process: TryProcess) -> None:
        """
        A user deletes the DAG run, and creates it again with the same run id. The
        process may learn nothing of it.

        Not while a process of the deleted DAG run is frozen: its number is that of a
        later try.
        """
        self.is_created_again = True
        self.airflow.history.append("deleted")
        self.airflow.state = DELETED
        if self.random.random() < 0.5:
            process.kill()
            self._finish(process)
        self.airflow.create_again()

    def _defer(self, process: TryProcess) -> bool:
        """Defer; the trigger may move, and a user may end or clear the task."""
        airflow, record = self.airflow, process.now.known if process.now else None
        assert record is not None
        airflow.state = "deferred"
        airflow.history.append("deferred")
        if self.random.random() < 0.5:
            before = set(airflow.aws.find(record.arn).tokens)
            end_deferred(airflow, record, process.number)
            assert airflow.aws.find(record.arn).tokens == before, (
                "a trigger that has moved stops nothing"
            )
        if self.random.random() < 0.5:
            airflow.state = "running"
            return True
        airflow.end_try("failed")
        end_deferred(airflow, record, process.number)
        return False

    def _step_frozen(self) -> None:
        process, airflow = self.random.choice(self.frozen), self.airflow
        process.is_confirmed = False
        if self.random.random() < 0.2:
            process.kill()
            self._finish(process)
        elif (
            process.at == ALLOWED
            and airflow.stored
            and process.number < airflow.stored.try_number != airflow.current
        ):
            # The same limit: the try whose record this is cannot write again.
            self.frozen.remove(process)
        else:
            process.at = next(process.steps, "")
            if not process.at:
                self.frozen.remove(process)
        self._check("a frozen process goes on")

    def _finish(self, process: TryProcess) -> None:
        for step in itertools.islice(process.steps, 1000):
            self._check(f"{step} of a process that ends")
            if self.random.random() < 0.5:
                self.airflow.aws.progress()
        if process in self.frozen:
            self.frozen.remove(process)

    def _check(self, moment: str) -> None:
        running = self.airflow.running
        assert len(running) <= 1, f"{moment}: two executions run\n" + "\n".join(
            self.airflow.history
        )


@pytest.mark.parametrize("block", range(BLOCKS))
def test_at_most_one_execution_runs_and_none_is_left(block: int) -> None:
    """
    Whatever dies, is frozen, killed or cleared at any point: one execution at a time,
    and none after the end.
    """
    walk_all(Walk, block)


def walk_all(kind: type[Walk], block: int) -> None:
    """Run the walks of a block, and check what each has left."""
    for seed in range(block, WALKS, BLOCKS):
        walk = kind(seed)

        try:
            walk.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None

        executing = [
            each for each in walk.airflow.aws.executions if each.status == "Executing"
        ]
        left = [
            each
            for each in executing
            if each.arn not in walk.unknown | walk.stopped_before
        ]
        if walk.choices.stop_on_kill:
            assert left == [], f"seed {seed}: an execution is left\n" + "\n".join(
                walk.airflow.history
            )
