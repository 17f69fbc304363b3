"""
Random walks over what can happen to the execution task of a group of steps.

It knows three steps: First has succeeded when the others begin, Second fails with its
execution, and Report runs until the execution ends. A clear is one of some of their
tasks, or of all.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from polysync_airflow.execution import step_clears
from polysync_airflow.execution.lifecycle.decisions import is_of_other_incarnation
from polysync_airflow.execution.lifecycle.instructions import (
    Command,
    ExecutionRecord,
    Instruction,
)
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.step_clears import Clear, ClearedSteps
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.states import has_ended
from tests.unit.execution.lifecycle.sessions import end_deferred
from tests.unit.execution.lifecycle.test_random_walk import (
    BLOCKS,
    WALKS,
    Walk,
    walk_all,
)
from tests.unit.execution.lifecycle.world import Airflow, TryProcess

ALL = ("First", "Second", "Report")
# The statuses of First, Second and Report by that of the execution.
STATUSES = {
    "Succeeded": ("Succeeded", "Succeeded", "Succeeded"),
    "Failed": ("Succeeded", "Failed", "Succeeded"),
    "CompletedWithFailures": ("Succeeded", "Failed", "Succeeded"),
    "Stopped": ("Succeeded", "Stopped", "Stopped"),
}
RUNNING = ("Succeeded", "Executing", "Executing")
DOES = {
    "resume": (Command.RESUME, Command.RESEND_RESUME),
    "wait": (Command.WAIT_FOR_END,),
    "new": (Command.PREPARE, Command.RESEND_RESUME),
    "select": (Command.PREPARE, Command.RESEND_RESUME),
}


class GroupAirflow(Airflow):
    """
    The execution task, and what Airflow knows of the tasks of the steps and of the
    group's first task.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The steps whose tasks were cleared.
        self.cleared: tuple[str, ...] = ALL
        # The XComs of the first task.
        self.kept: ExecutionRecord | None = None
        self.first_listing: Any = None

    def process_of_try(self) -> TryProcess:
        """Return the process of the try that begins."""
        return GroupTry(self)

    def forget_record(self) -> None:
        """Keep the record of a task that succeeds as an XCom of the first task."""
        self.kept = self.stored
        super().forget_record()

    def lose_record(self) -> None:
        """Lose the record, also that of a task that has succeeded."""
        super().lose_record()
        self.kept = None

    def clear(self) -> None:
        """Clear the task with some, with all, or with none of the steps."""
        super().clear()
        self.cleared = self.random.choice(
            [ALL, ALL, ("Second",), ("First", "Second"), ()]
        )
        self.history[-1] = f"cleared with {self.cleared}"

    def create_again(self) -> None:
        """Delete the DAG run, and create one with the same run id."""
        super().create_again()
        self.cleared = ALL
        self.kept = None
        self.first_look = None

    def find_cleared(self, status: str) -> ClearedSteps:
        """
        Return the steps that were cleared. The task of Report, which was not, waits
        until the execution has ended.
        """
        kept = "success" if has_ended(status) else "deferred"
        states: dict[str, str | None] = {
            "First": "success",
            "Second": "failed",
            "Report": kept,
        }
        noted = [name for name in self.cleared if self.random.random() < 0.5]
        for name in self.cleared:
            states[name] = "deferred" if name in noted else None
        return step_clears.cleared_steps(states, noted, status)


class GroupTry(TryProcess):
    """The process of a try of the execution task."""

    airflow: GroupAirflow
    clear: Clear | None = None
    # Whether it is not known whether AWS has accepted a resume, which is not wanted any
    # more.
    settles = False

    def _chosen(self) -> Generator[str, None, RecoveryOptions]:
        options = self.airflow.options
        self.clear = None
        if self.number == 1:
            return options
        yield "before the clear is read"
        record = yield from self._read_record()
        if record is None or record.execution_arn is None or record.epoch == self.epoch:
            return options
        is_other = is_of_other_incarnation(record, self.task.incarnation, self.number)
        if is_other or record.choice_in(self.epoch):
            return options
        self.settles = record.resume_is_pending
        self.clear = self._decide(record.execution_arn)
        yield f"chosen: {self.clear.action}"
        return options.model_copy(update=self.clear.options)

    def _read_record(self) -> Generator[str, None, ExecutionRecord | None]:
        airflow = self.airflow
        if airflow.stored or airflow.unproven or airflow.kept is None:
            return airflow.stored
        kept = airflow.kept
        yield "before the record of the success is stored"
        self._confirm()
        airflow.stored = kept
        return kept

    def _decide(self, arn: str) -> Clear:
        airflow = self.airflow
        status = self.aws.find(arn).status
        if airflow.random.random() < 0.05:
            return Clear("wait")  # AWS does not answer
        listed = zip(ALL, STATUSES.get(status, RUNNING), strict=True)
        steps = [
            StepDescription.model_validate({"StepName": name, "StepStatus": each})
            for name, each in listed
        ]
        first, is_first = step_clears.first_listing(
            airflow.first_listing, arn, self.epoch, steps
        )
        cleared = airflow.find_cleared(status)
        if not is_first:
            cleared = ClearedSteps(first.cleared or ())
        clear = step_clears.after_clear(
            cleared, status, steps, None if is_first else first
        )
        if is_first and clear.action == "wait":
            first = first.model_copy(update={"cleared": list(cleared.steps)})
            airflow.first_listing = first.model_dump(mode="json")
        return clear

    def _check_is_wanted(self, arn: str) -> None:
        """Check nothing: which steps were cleared decides, and not ``on_clear``."""

    def _check_choice(
        self, before: Instruction, status: str, instruction: Instruction
    ) -> None:
        """Check that the try does what was cleared."""
        epoch = before.task_try.epoch
        record = before.existing_record
        if instruction.command is Command.RESEND_RESUME:
            # Known limit: since this try has chosen, a process that was frozen right
            # before its write may have stored that it is about to resume.
            self.settles = True
        is_of_the_clear = self.clear and self.epoch == self.airflow.max_tries
        # This try may have sent the start of an earlier clear again, to know of it.
        was_running = self.aws.find(record.arn).created_at < self.aws.now
        is_partial = was_running and self.airflow.cleared != ALL
        if is_of_the_clear and is_partial and not self.settles:
            assert instruction.command is not Command.STOP, (
                "some steps were cleared, and the execution is stopped"
            )
        if self.clear is None or status != "Failed":
            return
        if self._is_decided(record, epoch):
            return
        if not record.choice_in(epoch):
            action = self.clear.action
            assert instruction.command in DOES[action], (
                f"the clear means {action}, but the try does {instruction.command.name}"
            )


class GroupWalk(Walk):
    """The execution task of a group, with what happens to it, chosen by a seed."""

    airflow: GroupAirflow

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.clears += 1
        # Triggers of tries whose task was cleared, which have not done what they do
        # then.
        self.late: list[tuple[ExecutionRecord, int]] = []

    def _options(self) -> RecoveryOptions:
        return (
            super()
            ._options()
            .model_copy(update={"retry_mode": "resume", "on_clear": "new"})
        )

    def _airflow(self, retries: int) -> GroupAirflow:
        return GroupAirflow(
            self.random,
            self.options,
            retries,
            self.aws,
            has_own_names=self.scenario.has_own_names,
        )

    def run(self) -> None:
        """Run the task to its end, and let all that is left of it come to an end."""
        super().run()
        while self.late:
            self._look_late()

    def _disturb(self, process: TryProcess, step: str) -> bool:
        if self.late and self.random.random() < 0.1:
            self._look_late()
        if step == "waiting" and self.random.random() < 0.2:
            return self._defer(process)
        return super()._disturb(process, step)

    def _defer(self, process: TryProcess) -> bool:
        if not self.clears or self.random.random() < 0.5:
            return super()._defer(process)
        self.clears -= 1
        airflow = self.airflow
        record = process.instruction.existing_record if process.instruction else None
        assert record is not None
        airflow.history.append("deferred")
        airflow.state = "deferred"
        airflow.clear()
        self.late.append((record, process.number))
        if self.random.random() < 0.8:
            self._look_late()
        if self.random.random() < 0.2:
            # A user ends the task before its next try begins.
            airflow.end_try("failed")
            while self.late:
                self._look_late()
        return False

    def _look_late(self) -> None:
        """
        Let a trigger whose task was cleared look whose execution it is; it looks again
        if it leaves it.
        """
        airflow = self.airflow
        record, number = self.late[-1]
        stops = airflow.aws.stops
        if step_clears.is_left_to_next_try(airflow.state):
            airflow.history.append("left to the next try")
            return
        self.late.pop()
        airflow.history.append(f"the trigger of try {number} looks")
        end_deferred(airflow, record, number)
        if airflow.aws.stops > stops:
            airflow.history.append("stopped")
        self._check("a trigger looks")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_group_runs_one_execution_at_a_time_and_leaves_none(block: int) -> None:
    """Whatever is cleared, dies, is frozen or killed at any point."""
    walk_all(GroupWalk, range(block, WALKS // 3, BLOCKS))
