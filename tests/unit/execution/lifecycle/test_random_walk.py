"""
Random walks over what can happen to a task: the promise, checked on the core alone.

A seed chooses the scenario of a walk, so that what needs several rare things at once
happens often enough: each block of walks reaches each row of the table of transitions.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.instructions import (
    AddedUp,
    Command,
    Described,
)
from polysync_airflow.execution.lifecycle.machine import TRANSITIONS
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.states import DELETED
from tests.unit.execution.lifecycle.aws import Aws, Weather
from tests.unit.execution.lifecycle.sessions import (
    end_deferred,
    stop_left,
    time_out_in_triggerer,
    watch,
)
from tests.unit.execution.lifecycle.world import (
    ALLOWED,
    PAUSING,
    Airflow,
    Row,
    TryProcess,
)

# For a longer search: POLYSYNC_WALKS=100000.
DEFAULT_WALKS = 5100
WALKS = int(os.environ.get("POLYSYNC_WALKS", str(DEFAULT_WALKS)))
# For several processes. A block of a longer search takes less time than a test may.
BLOCKS = max(3, WALKS // 5_000)
# How often each of at least three blocks reaches each row of the table of transitions,
# so that all of them do it more than 50 times; and each command that may follow there.
ROW_REACHED = 17
FOLLOWING_REACHED = 4
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
BEFORE_A_START = BEFORE_A_REQUEST[:2]
BEFORE_A_RESUME = BEFORE_A_REQUEST[2:]
BEFORE_THE_FIRST_WRITE = [
    "before the record is read",
    "when the record is read",
    "before the write for START",
    "before the write that was allowed",
]


@dataclass(frozen=True)
class Scenario:
    """
    What happens in a walk, and how likely it is.

    :param weight: how often it is chosen, beside the others.
    :param dies: before the walk, at which steps the processes of the first tries die,
        one after the other; their executions fail.
    :param freezes: the last of them is frozen instead.
    :param deaths: how much likelier than usual a process is disturbed.
    :param losses: the record is lost between two tries.
    :param marks: a user marks or clears the task while it waits for its retry.
    :param outside: somebody resumes or stops an execution outside of Airflow.
    :param races: the same, while a process is about to resume it.
    :param others: other task instances start executions of the same pipeline.
    :param options: what the author chose.
    """

    weight: int
    weather: Weather = field(default_factory=Weather)
    dies: tuple[str, ...] = ()
    freezes: bool = False
    deaths: float = 1.0
    losses: float = 0.15
    marks: float = 0.1
    outside: float = 0.05
    races: float = 0.05
    others: float = 0.2
    has_own_names: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


# A first try that nothing disturbs.
THE_END = "the end"
RESUMES = {"retry_mode": "resume", "on_clear": "resume"}
RESUMES_RETRIES = {"retry_mode": "resume", "on_clear": "new"}
# A process is rarely disturbed, and a user marks or clears the task.
MARKED: Any = {"deaths": 0.2, "losses": 0, "marks": 0.9}
LATE: Any = {**MARKED, "freezes": True}
RACED: Any = {**MARKED, "deaths": 0.1, "races": 0.5}
NO_RECORD: Any = {"deaths": 0.2, "losses": 0.7, "others": 0.1, "has_own_names": True}
BEFORE_RESUME = (THE_END, "sending RESUME")
AFTER_RESUME = (THE_END, "after RESUME")
BEFORE_START = (THE_END, "sending START")
ENDS_LOST = Weather(failed=0.1, lost=0.2, unknown=0.2, gone=0.1)
LOST = Weather(lost=0.2, unknown=0.1)
REFUSING = Weather(refused_resumes=0.7, gone=0.25)
REFUSED = Weather(failed=0.1, refused=0.5, quota=0.2)
FULL = Weather(failed=0.05, lost=0.05, quota=0.6, capacity=0.8)
CONFLICTS = Weather(failed=0.1, conflict=0.8)
UNKNOWN = Weather(unknown=0.2, gone=0.2)
SCENARIOS = [
    Scenario(3),
    # Nobody knows whether AWS has accepted a resume.
    Scenario(8, ENDS_LOST, BEFORE_RESUME, options=RESUMES, **MARKED),
    Scenario(3, LOST, AFTER_RESUME, options=RESUMES, **MARKED),
    # A process that was frozen sends its resume late.
    Scenario(3, dies=BEFORE_RESUME, options=RESUMES_RETRIES, **LATE),
    # AWS refuses resumes, or somebody else resumes the execution.
    Scenario(12, REFUSING, BEFORE_RESUME, options=RESUMES_RETRIES, **RACED),
    # AWS refuses a start that is to replace an execution.
    Scenario(5, REFUSED, BEFORE_START, options={"retry_mode": "new"}, **MARKED),
    # AWS answers starts with conflicts.
    Scenario(3, CONFLICTS, ("sending START",), deaths=0.3, losses=0.1, marks=0.9),
    # AWS has no capacity.
    Scenario(6, FULL, deaths=2.0, losses=0, marks=0.5),
    Scenario(9, FULL, BEFORE_RESUME, options=RESUMES, **MARKED),
    # AWS does not know executions that run.
    Scenario(3, UNKNOWN, ("waiting",), deaths=0.1, losses=0, marks=0.3),
    # Records are lost or edited.
    Scenario(3, dies=("waiting",), losses=0.7, marks=0.5, others=0.6),
    # Only tokens tell which execution is whose.
    Scenario(2, dies=(THE_END,), **NO_RECORD),
    Scenario(8, dies=("waiting",), marks=0.3, outside=0.7, **NO_RECORD),
]
WEIGHTS = [scenario.weight for scenario in SCENARIOS]


class Walk:
    """One task with what happens to it, chosen by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.scenario = random.choices(SCENARIOS, WEIGHTS)[0]
        self.options = self._options()
        self.aws = Aws(random, self.scenario.weather)
        self.airflow = self._airflow(random.randint(0, 3) + len(self.scenario.dies))
        self.others = 0
        # The executions of other task instances, with the tokens that those have sent.
        self.foreign: dict[str, set[str]] = {}
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
        self.clears = random.randint(0, 2) + bool(self.scenario.dies)
        # Executions of which nobody knows any more who could stop them.
        self.unknown: set[str] = set()
        self.resumed_outside: set[str] = set()
        # Known limit: without its record, AWS may take the stop of a resumed execution
        # for an earlier one.
        self.stopped_before: set[str] = set()

    def _options(self) -> RecoveryOptions:
        random = self.random
        return RecoveryOptions(
            retry_mode=random.choice(["new", "resume"]),
            on_clear=random.choice(["new", "resume"]),
            on_completed_with_failures=random.choice(["fail", "succeed"]),
            stop_on_kill=random.random() < 0.85,
        ).model_copy(update=self.scenario.options)

    def _airflow(self, retries: int) -> Airflow:
        return Airflow(
            self.random,
            self.options,
            retries,
            self.aws,
            has_own_names=self.scenario.has_own_names,
        )

    @property
    def is_blind(self) -> bool:
        """
        Whether the record was lost of an execution that no name tells.

        Known limit: only its epoch finds it, by its token.
        """
        return self.is_lost and self.scenario.has_own_names

    def run(self) -> None:
        """Run the task to its end, and let all that is left of it come to an end."""
        airflow = self.airflow
        self._play()
        while True:
            self.unknown.clear()
            process = airflow.begin_try()
            self._run_try(process)
            died = airflow.history[-2:] == ["crash", "-> failed"]
            is_stopped = died and airflow.stored and not self.is_created_again
            self._between_tries()
            has_not_looked = not process.wrote and not is_stopped
            if airflow.state == "failed" and (has_not_looked or self.is_blind):
                # Known limits: the last process is ended before it could write
                # anything; or the record is lost, and it ends before it has looked in
                # AWS.
                self.unknown.update(each.arn for each in airflow.running)
            if airflow.state in ("success", "failed"):
                if not self.clears or self.is_blind:
                    break
                self.clears -= 1
                self._choose()
                airflow.clear()
        for process in list(self.frozen):
            if not self._is_given_up(process):
                self._finish(process)

    def _play(self) -> None:
        """Do what the scenario says, without anything else that happens."""
        airflow = self.airflow
        for last_step in self.scenario.dies:
            if airflow.state == "failed":
                airflow.clear()
            process = airflow.begin_try()
            for step in process.steps:
                if step == last_step:
                    break
                airflow.history.append(step)
                if step == "waiting":
                    airflow.fail_executions()
            if airflow.state != "running":
                continue
            if self.scenario.freezes and last_step == self.scenario.dies[-1]:
                self._freeze(process)
            else:
                self._crash(process)
        self._between_tries()

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
        random = self.random
        airflow = self.airflow
        while random.random() < self.scenario.others:
            self._run_other()
        while random.random() < 0.4:
            airflow.progress()
        if self.frozen and airflow.state == "up_for_retry":
            self._clear_while_frozen()
        if self.frozen or airflow.try_number == 0 or airflow.state == "success":
            return
        if random.random() < self.scenario.outside:
            self._act_outside()
        if airflow.state == "up_for_retry" and random.random() < self.scenario.marks:
            self._mark_or_clear()
        if random.random() < self.scenario.losses and self._may_lose_record():
            self.is_lost = True
            airflow.lose_record()
            self.stopped_before.update(
                each.arn for each in airflow.aws.executions if each.stops
            )
        if random.random() < 0.2 and not self.scenario.has_own_names:
            airflow.history.append("tokens forgotten")
            airflow.aws.forget_tokens()
        if random.random() < 0.3:
            airflow.parameter = f"{airflow.parameter}1"

    def _may_lose_record(self) -> bool:
        if self.is_created_again:
            return False
        airflow = self.airflow
        if not self.scenario.has_own_names:
            return True
        stored = airflow.stored
        if stored is None or stored.execution_arn is None:
            return False
        # Known limit: the token of the first start of an epoch may resume what a later
        # one has replaced.
        is_first = airflow.task.next_number(stored, airflow.max_tries) <= 1
        return is_first and airflow.state != "failed"

    def _mark_or_clear(self) -> None:
        """A user marks or clears a task that waits for its retry."""
        airflow = self.airflow
        if self.is_blind:
            return
        if self.clears and self.random.random() < 0.7:
            self.clears -= 1
            airflow.clear()
            return
        airflow.history.append("marked while it waits for its retry")
        airflow.end_try("failed")
        watch(airflow)

    def _clear_while_frozen(self) -> None:
        """A user clears the task while it waits for its retry."""
        if self.is_blind or not self.clears:
            return
        if self.random.random() < self.scenario.marks / 2:
            self.clears -= 1
            self.airflow.clear()

    def _act_outside(self) -> None:
        """
        Somebody resumes or stops the execution of the record in AWS's console.

        Known limit: not that of an older record, around the start of a new one.
        """
        stored = self.airflow.stored
        if stored is None or stored.execution_arn is None:
            return
        execution = self.aws.find(stored.execution_arn)
        if self.frozen or not self.airflow.owns(execution):
            return
        if execution.status == "Executing":
            self.airflow.history.append("stopped outside of Airflow")
            execution.status = "Stopping"
        elif execution.has_failed and not execution.stops:
            # Known limit: AWS may take the next stop for the one that it has made.
            self.airflow.history.append("resumed outside of Airflow")
            execution.status = self.random.choice(["Executing", "Stopping"])
            # It is theirs, if nobody clears the task.
            self.unknown.add(execution.arn)
            self.resumed_outside.add(execution.arn)
            if stored.resume_is_pending:
                # The same limit.
                self.stopped_before.add(execution.arn)

    def _run_other(self) -> None:
        """
        The task of a later DAG run, or the same one of another deployment, starts its
        execution: nobody else touches it.
        """
        before = self.airflow.stored
        self.others += 1
        run_id = f"later{self.others}"
        deployment = "prod"
        if self.random.random() < 0.5:
            run_id = "today"
            deployment = f"staging{self.others}"
        other = Airflow(
            self.random,
            self.options,
            0,
            self.aws,
            run_id=run_id,
            deployment=deployment,
            has_own_names=self.scenario.has_own_names,
        )
        steps = other.begin_try().steps
        for step in itertools.takewhile(lambda step: step != "waiting", steps):
            assert self.airflow.stored == before, (
                f"another task instance has changed the record: {step}"
            )
        for each in filter(other.owns, self.aws.executions):
            self.foreign[each.arn] = set(each.tokens)

    def _run_try(self, process: TryProcess) -> None:
        for step in process.steps:
            process.at = step
            self.airflow.history.append(step)
            self._check(step)
            self._let_time_pass(step)
            if step in BEFORE_A_RESUME and self.random.random() < self.scenario.races:
                self._act_outside()
            if not process.is_overwritten and not self._disturb(process, step):
                return

    def _let_time_pass(self, step: str) -> None:
        random = self.random
        while random.random() < (0.5 if step == "waiting" else 0.05):
            self.airflow.progress()
            self._check("progress")
        while self.frozen and random.random() < self.thaws:
            self._step_frozen()

    def _disturb(self, process: TryProcess, step: str) -> bool:
        """Let something happen; return False if the process does not go on."""
        airflow = self.airflow
        deaths = self.scenario.deaths
        is_frozen = step in self.likely_freezes and self.random.random() < 0.15 * deaths
        chance = self.random.random() / deaths
        if chance < 0.03:
            self._crash(process)
        elif chance < 0.05:
            self._kill(process)
        elif chance < 0.06:
            self._clear_while_running(process)
        elif (
            chance < 0.07
            and not self.frozen
            and not self.is_lost
            and not self.scenario.has_own_names
        ):
            self._create_again(process)
        elif airflow.try_number <= airflow.max_tries and (chance < 0.08 or is_frozen):
            self._freeze(process)
        elif chance < 0.1 and step == "waiting":
            return self._defer(process)
        elif chance < 0.2 and step == PAUSING:
            return self._defer_pause()
        elif 0.1 < chance < 0.14:
            (self._evict if chance < 0.13 else self._time_out)(process)
        else:
            return True
        return False

    def _freeze(self, process: TryProcess) -> None:
        self.airflow.history.append("frozen")
        self.frozen.append(process)
        process.is_confirmed = False
        self.airflow.end_try("up_for_retry")

    def _crash(self, process: TryProcess) -> None:
        airflow = self.airflow
        airflow.history.append("crash")
        airflow.end_try(airflow.state_after_failure)
        if airflow.state == "failed":
            stop_left(airflow)

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
        airflow = self.airflow
        stops = airflow.aws.stops
        airflow.history.append("evicted")
        process.kill()
        assert airflow.aws.stops == stops, "an eviction stops nothing"
        last_steps = itertools.islice(process.steps, self.random.randrange(8))
        for step in last_steps:
            airflow.history.append(f"{step} of an evicted process")
            self._check(airflow.history[-1])
            if self.random.random() < 0.3:
                airflow.progress()
        if airflow.state == "running":
            self._crash(process)
        if (
            process.instruction
            and process.instruction.command is Command.WATCH
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
        self.airflow.end_try(self.airflow.state_after_failure)

    def _clear_while_running(self, process: TryProcess) -> None:
        self.airflow.history.append("cleared while running")
        self.airflow.current = None
        self.airflow.state = "restarting"
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
        """
        Defer. The trigger may move, or may time out while the DAG is paused, and a user
        may end or clear the task.
        """
        airflow = self.airflow
        record = process.instruction.existing_record if process.instruction else None
        assert record is not None
        airflow.state = "deferred"
        airflow.history.append("deferred")
        if self.random.random() < 0.3:
            airflow.history.append("paused until a user ends the task")
            time_out_in_triggerer(airflow, record, process.number)
            airflow.end_try("failed")
            return False
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

    def _defer_pause(self) -> bool:
        """Defer until AWS is asked again; a user may end or clear the task."""
        airflow = self.airflow
        airflow.history.append("pause deferred")
        airflow.state = "deferred"
        chance = self.random.random()
        if chance < 0.4:
            airflow.end_try("failed")
            watch(airflow)
        elif chance < 0.7 and self.clears and not self.is_blind:
            self.clears -= 1
            airflow.clear()
        else:
            airflow.state = "running"
            return True
        return False

    def _step_frozen(self) -> None:
        airflow = self.airflow
        process = self.random.choice(self.frozen)
        process.is_confirmed = False
        if self._is_given_up(process):
            self.frozen.remove(process)
        elif self.random.random() < 0.2:
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

    def _is_given_up(self, process: TryProcess) -> bool:
        """
        Return whether a process is about to send a start of an earlier epoch that a
        later try has given up, or is giving up, because AWS answered it with conflicts.

        Known limit: it starts an execution beside that of the later try.
        """
        if process.at not in BEFORE_A_START or process.instruction is None:
            return False
        record = process.instruction.existing_record
        stored = self.airflow.stored
        if record.epoch == self.airflow.max_tries:
            return False
        token = record.request.client_request_token
        is_stored = stored and stored.request.client_request_token == token
        if is_stored and token not in self.aws.conflicts:
            return False
        return self.aws.started_with(token) is None

    def _finish(self, process: TryProcess) -> None:
        for step in itertools.islice(process.steps, 1000):
            self._check(f"{step} of a process that ends")
            if self.random.random() < 0.5:
                self.airflow.progress()
        if process in self.frozen:
            self.frozen.remove(process)

    def _check(self, moment: str) -> None:
        running = self.airflow.running
        assert len(running) <= 1, f"{moment}: two executions run"
        for arn, tokens in self.foreign.items():
            assert self.aws.find(arn).tokens <= tokens, (
                f"{moment}: the execution of another task instance was touched"
            )

    def check_end(self) -> None:
        """Check what is left at the end."""
        own = list(filter(self.airflow.owns, self.aws.executions))
        if not self.options.stop_on_kill:
            stopped = {each.arn for each in own if each.stops}
            assert stopped <= self.airflow.too_expensive, "an execution is stopped"
            return
        excused = self.unknown | self.stopped_before
        stored = self.airflow.stored
        if stored and stored.waits_for_capacity:
            # Known limit: the record says that nothing runs, as no try has received
            # the status since.
            excused |= self.resumed_outside
        for each in own:
            is_left = each.status == "Executing" and each.arn not in excused
            assert not is_left, f"{each.arn} is left"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_at_most_one_execution_runs_and_none_is_left(block: int) -> None:
    """
    Whatever dies, is frozen, killed or cleared at any point: one execution at a time,
    and none after the end.
    """
    reached = walk_all(Walk, range(block, WALKS, BLOCKS))

    if WALKS >= DEFAULT_WALKS:
        assert list(rare_rows(reached)) == []


def rare_rows(reached: Counter[Row]) -> Iterator[str]:
    """Yield the rows of the table of transitions that were not reached often enough."""
    for command, transitions in TRANSITIONS.items():
        for event, transition in transitions.items():
            times = {
                following.name: reached[command, event, following]
                for following in transition.follows
            }
            is_rare = sum(times.values()) < ROW_REACHED
            if is_rare or min(times.values()) < FOLLOWING_REACHED:
                yield f"{command.name} {event.__name__} {times}"
    for wait in (Command.WATCH, Command.WAIT_FOR_END):
        too_expensive = reached[wait, AddedUp, Command.STOP]
        if too_expensive < FOLLOWING_REACHED:
            yield f"executions that are too expensive: {wait} {too_expensive}"
    failures = reached[Command.WATCH, Described, Command.WAIT_FOR_CAPACITY]
    if failures < ROW_REACHED:
        yield f"executions without capacity: {failures}"


def walk_all(kind: type[Walk], seeds: Iterable[int]) -> Counter[Row]:
    """
    Run walks, and check what each has left. Return how often they have reached each row
    of the table of transitions.
    """
    reached: Counter[Row] = Counter()
    for seed in seeds:
        walk = kind(seed)
        try:
            walk.run()
            walk.check_end()
        except AssertionError as error:
            history = "\n".join(walk.airflow.history)
            raise AssertionError(f"seed {seed}: {error}\n{history}") from None
        reached += walk.airflow.rows
    return reached
