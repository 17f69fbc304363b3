"""
What comes next for a task, in one line: for the tab, the page and the commands.

The XCom ``run`` has what the last try knew: its member ``next``, which ``decisions.py``
makes. Airflow says what the task is now. A person may have marked or cleared it since,
or have paused its DAG, so what the try knew counts only for the state that it had in
mind. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polysync_airflow import states
from polysync_airflow.execution import clock, models, texts
from polysync_airflow.execution.lifecycle.capacity import CapacityWait
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.lifecycle.orphans import ENDED_STATES
from polysync_airflow.execution.lifecycle.plans import Does, Plan
from polysync_airflow.execution.outcome import STOPPING, RequestedStop
from polysync_airflow.states import PolysyncState

# For how long a triggerer asks AWS how a stop ends (``triggers/stopping.py``), with how
# late it may begin.
_FOLLOWED: Final = timedelta(minutes=16)
# How long after the end of the task its stop may be requested.
_REQUESTED: Final = timedelta(minutes=2)
# What is so late may wait for something else.
_LATE: Final = timedelta(minutes=2)
_GROUP: Final = "PolysyncStepsExecutionOperator"
# The operators that start executions, whose tasks the page lists
# (ui/static/execution.js).
START_OPERATORS: Final = (
    "PolysyncStartPipelineOperator",
    "PolysyncRunJobOperator",
    _GROUP,
)


class Sentence(NamedTuple):
    """
    A sentence without its full stop.

    :param text: the sentence up to the time with which it ends.
    :param at: that time; None without one.
    """

    text: str
    at: datetime | None = None

    @property
    def line(self) -> str:
        """The sentence with its time in UTC, for a terminal."""
        if self.at is None:
            return f"{self.text}."
        return f"{self.text} {self.at:%Y-%m-%d %H:%M:%S} UTC."

    @property
    def as_json(self) -> dict[str, str | None]:
        """The sentence for a JSON document."""
        return {"text": self.text, "at": clock.iso_text(self.at)}


def as_line(sentences: Iterable[Sentence]) -> str:
    """Return sentences in one line, with their times in UTC."""
    return " ".join(sentence.line for sentence in sentences)


class TaskNow(NamedTuple):
    """
    What Airflow says of a task instance now.

    :param state: its state; None if it was cleared, or has never begun.
    :param try_number: the number of its last try, which Airflow raises when it
        schedules the next one; 0 before the first one.
    :param max_tries: how many tries may be followed by another one; a clear raises it.
    :param operator: the name of the class of its operator.
    :param is_paused: whether its DAG is paused.
    :param ended_at: when its last try has ended; None if it has not.
    """

    state: str | None
    try_number: int
    max_tries: int
    operator: str | None = None
    is_paused: bool = False
    ended_at: datetime | None = None


class PushedRun(BaseModel):
    """What is used of an XCom ``run``, which users may edit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    execution_arn: models.ExecutionArn | None = None
    state: texts.NameText
    status: texts.NameText | None = None
    resumes: Annotated[int, Field(ge=0, le=models.MAX_INTEGER)] = 0
    attempt_started_at: models.UtcTime | None = None
    attempt_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    stop: RequestedStop | None = None
    stops_with_task: bool = False
    capacity: CapacityWait | None = None
    next: Plan | None = None

    @property
    def is_running(self) -> bool:
        """Whether the execution runs, as far as is known."""
        return self.execution_arn is not None and self.state == PolysyncState.RUNNING

    @property
    def is_stopping(self) -> bool:
        """Whether the execution is being stopped, or was to be."""
        if self.status == states.STATUS_STOPPING:
            return True
        return self.stop is not None and self.stop.result != "failed"


def read_run(value: Any) -> PushedRun | None:
    """Return an XCom ``run``; None if it is something else."""
    try:
        return PushedRun.model_validate(value)
    except ValidationError:
        return None


def what_comes_next(
    task: TaskNow,
    run: PushedRun | None,
    now: datetime,
    choice: OnClear | None = None,
) -> list[Sentence]:
    """
    Return what comes next for a task that has an execution, or will have one.

    :param run: the XCom ``run`` of its last try; None if there is none.
    :param choice: as ``needs_choice`` says; None if ``on_clear`` decides.
    """
    if run is None and not (task.operator or "").startswith("Polysync"):
        return []
    if task.state in ENDED_STATES:
        return [*_after_end(task, run, now)]
    if task.state in ("running", "deferred"):
        return [*_at_work(task, run, now)]
    if task.state in ("up_for_retry", "up_for_reschedule"):
        return [_before_retry(task, run, now)]
    return [_before_begin(task, run, choice)]


def needs_choice(task: TaskNow, run: PushedRun | None) -> bool:
    """
    Return whether what comes next depends on what a person has chosen for the clear
    that was made.
    """
    is_cleared = task.state in (None, *_WAITS_FOR_WORKER)
    return is_cleared and run is not None and run.next is not None


# ---- while the task works, or is deferred


def _at_work(task: TaskNow, run: PushedRun | None, now: datetime) -> Iterator[Sentence]:
    if run is None or (run.next and run.next.try_number != task.try_number):
        # The try has just begun.
        return
    is_held = task.is_paused and task.state == "deferred"
    if run.state == STOPPING:
        yield Sentence(
            "A new execution starts as soon as that of an earlier try has stopped"
        )
    elif run.capacity:
        yield from _until_capacity(run.capacity, run.next, now, is_held=is_held)
        return
    elif run.is_running:
        yield from _until_end(run)
    if is_held:
        yield Sentence("After that, the task goes on when the DAG is unpaused")


def _until_capacity(
    wait: CapacityWait, plan: Plan | None, now: datetime, *, is_held: bool
) -> Iterator[Sentence]:
    if is_held:
        text = "AWS is asked again when the DAG is unpaused, not before"
    elif now - wait.asks_at > _LATE:
        text = "AWS should have been asked again at"
    else:
        text = "AWS is asked again at"
    yield Sentence(text, wait.asks_at)
    if plan and plan.until:
        yield Sentence("The task gives up at", plan.until)
    yield Sentence("To give up now, mark the task failed")


def _until_end(run: PushedRun) -> Iterator[Sentence]:
    if run.is_stopping:
        yield Sentence("The execution is being stopped, and the try ends with it")
        return
    plan = run.next
    if plan is None:
        # A sensor stops nothing.
        return
    end = "goes on (stop_on_kill=False)"
    if run.stops_with_task:
        end = "is stopped"
    if plan.until:
        yield Sentence("The execution may run until", plan.until)
        yield Sentence(f"Then the try fails, and the execution {end}")
    yield Sentence(f"If somebody ends the task, the execution {end}")


# ---- before a retry, or the next try after a clear

_WAITS_FOR_WORKER: Final = ("scheduled", "queued")
_UNPAUSED: Final = "When the DAG is unpaused"
_DOES: Final[dict[Does | None, str]] = {
    "start": "starts a new execution",
    "start_or_resume": (
        "resumes the failed steps if the execution fails before it is stopped, and"
        " else starts a new execution"
    ),
    "continue": "goes on with the same execution",
    "search": "looks for an execution again",
    None: "begins",
}
_AFTER_STOP: Final = (
    "starts a new execution after the end of the one that is being stopped"
)


def _before_retry(task: TaskNow, run: PushedRun | None, now: datetime) -> Sentence:
    number = task.try_number + 1
    if task.state == "up_for_reschedule":
        number = task.try_number
    text = f"{_name_of_try(number, task)} {_effect_of_retry(task, run)}"
    plan = _plan_of(task, run, task.try_number)
    retry = plan.retry if plan else None
    if task.is_paused:
        return _when(_UNPAUSED, text)
    if retry is None or retry.at is None:
        return _when("After the retry delay", text)
    if now - retry.at > _LATE:
        # As Airflow waits for longer if the delay grows, that is no promise.
        return Sentence(f"{text}; it was due at", retry.at)
    if retry.is_earliest:
        return Sentence(f"{text}, not before", retry.at)
    return Sentence(f"{text} at", retry.at)


def _before_begin(
    task: TaskNow, run: PushedRun | None, choice: OnClear | None
) -> Sentence:
    when = "When Airflow schedules it"
    if task.state in _WAITS_FOR_WORKER:
        when = "As soon as a worker is free"
    if task.is_paused and task.state != "queued":
        when = _UNPAUSED
    number = task.try_number
    if task.state not in _WAITS_FOR_WORKER:
        number += 1
    if _plan_of(task, run, number):
        if run and run.capacity:
            return _when(when, "AWS is asked again")
        return _when(when, "The task goes on")
    if run is None:
        is_first = number == 1 and task.operator in START_OPERATORS
        effect = "starts an execution" if is_first else _DOES[None]
    elif task.state in _WAITS_FOR_WORKER and _plan_of(task, run, number - 1):
        effect = _effect_of_retry(task._replace(try_number=number - 1), run)
    else:
        effect = _effect_of_clear(task, run, choice)
    return _when(when, f"{_name_of_try(number, task)} {effect}")


def _when(when: str, text: str) -> Sentence:
    """Return a sentence that begins with when it comes true."""
    first, rest = text.split(" ", 1)
    if first != "AWS":
        first = first.lower()
    return Sentence(f"{when}, {first} {rest}")


def _name_of_try(number: int, task: TaskNow) -> str:
    # A task that is cleared while it runs is retried in any case.
    return f"Try {number} of {max(number, task.max_tries + 1)}"


def _plan_of(task: TaskNow, run: PushedRun | None, try_number: int) -> Plan | None:
    """Return the plan of a try, if the task was not cleared since."""
    plan = run.next if run else None
    if plan and (plan.try_number, plan.max_tries) == (try_number, task.max_tries):
        return plan
    return None


def _effect_of_retry(task: TaskNow, run: PushedRun | None) -> str:
    plan = _plan_of(task, run, task.try_number)
    if plan and run and plan.retry:
        return _effect(_known_now(plan.retry.does, run), plan)
    if run and run.is_running:
        # The process of the try has died, or somebody has cleared it.
        return _AFTER_STOP if run.is_stopping else _DOES["continue"]
    return _DOES[None]


def _effect_of_clear(task: TaskNow, run: PushedRun, choice: OnClear | None) -> str:
    plan = run.next
    if choice is None and task.operator == _GROUP:
        # What Airflow says of the tasks of its steps decides (``step_clears.py``).
        if run.is_running:
            return "waits for the execution, or stops it if all steps were cleared"
        return "repeats the steps that were cleared or have failed"
    if run.is_running:
        if plan and plan.clear == "start_or_resume":
            return _DOES[plan.clear]
        if run.is_stopping or run.stops_with_task:
            return _AFTER_STOP
        return "first waits for the end of the execution that runs"
    if choice == "resume" and plan and plan.resumable:
        return _effect("resume", plan)
    if choice:
        return _DOES["start"]
    return _effect(_after_clear(run), plan)


def _after_clear(run: PushedRun) -> Does | None:
    """Return what a clear does about an execution that has ended, without a choice."""
    if run.state in (PolysyncState.SUCCESS, PolysyncState.CANCELLED):
        return "start"
    return _known_now(run.next.clear, run) if run.next else None


def _known_now(does: Does | None, run: PushedRun) -> Does | None:
    """Return which of the two it is, if the execution has ended since."""
    if does != "start_or_resume" or run.is_running:
        return does
    return "resume" if run.state == PolysyncState.FAILED else "start"


def _effect(does: Does | None, plan: Plan | None) -> str:
    if does != "resume":
        return _DOES[does]
    if plan is None or plan.repeats is None or plan.steps is None:
        return "resumes the failed steps"
    return f"resumes the failed steps ({plan.repeats} of {plan.steps})"


# ---- after the end of the task

_NOT_SEEN: Final = Sentence(
    "The end of the execution is not known here: the AWS console shows it"
)


def _after_end(
    task: TaskNow, run: PushedRun | None, now: datetime
) -> Iterator[Sentence]:
    if run and run.is_running:
        yield _left_running(task, run, now)
    if task.state in ("success", "skipped"):
        return
    if task.state != "failed":
        yield Sentence(f"Nothing follows: the task is {task.state}")
        return
    yield Sentence("Nothing follows by itself: the task has failed")
    if run:
        yield from _by_a_person(task, run)


def _left_running(task: TaskNow, run: PushedRun, now: datetime) -> Sentence:
    stop = run.stop
    if stop is None and not run.stops_with_task:
        return Sentence("The execution goes on without the task")
    if stop is None:
        text = "The stop of the execution is requested by"
        until = (task.ended_at or now) + _REQUESTED
    elif stop.result == "failed":
        return Sentence("The stop has failed: the execution may still be running")
    elif stop.error:
        return _NOT_SEEN
    elif stop.process == "worker" and stop.reason != "ended_task":
        # Only the end of the DAG run lets a triggerer look for it.
        return Sentence(
            "The execution is being stopped; its end is stored after that of the DAG"
            " run"
        )
    else:
        text = "The execution is being stopped; its end is stored by"
        until = stop.requested_at + _FOLLOWED
    if now > until:
        return _NOT_SEEN
    return Sentence(text, until)


def _by_a_person(task: TaskNow, run: PushedRun) -> Iterator[Sentence]:
    a_clear = "A clear of the task"
    if task.operator == _GROUP:
        a_clear = "A clear of all steps"
    plan = _plan_of(task, run, task.try_number)
    if run.is_running:
        if run.is_stopping or run.stops_with_task:
            effect = _DOES[(plan and plan.clear) or "start"]
            yield Sentence(f"{a_clear} {effect}")
        return
    clear = _after_clear(run)
    if plan is None or (clear is None and not plan.resumable):
        return
    rest = "what has not succeeded"
    if plan.repeats is not None and plan.steps is not None:
        rest = f"{plan.repeats} of {plan.steps} steps"
    resume = f'"Resume failed steps" repeats {rest}'
    if not plan.resumable:
        yield Sentence(f"{a_clear} {_effect(clear, plan)}")
    elif clear == "start":
        yield Sentence(f"{resume}, and a clear {_DOES[clear]}")
    elif clear == "resume":
        yield Sentence(f"{resume}, and so does a clear")
    else:
        yield Sentence(resume)
