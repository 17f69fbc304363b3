"""
The vocabulary of the modules beside this one: what happens to a try (events), what it
does next (commands, which ``instruction_kinds.py`` makes instructions), and the record
of the execution, which the tries of a task share and users can edit in Airflow.

The identity of a start is its task instance, its epoch, and its number in the epoch.
The client token and the default display name follow from it. So a try that finds no
record of the earlier tries sends the same token as they did, and AWS returns the
execution that it has already started. The name of each execution that AWS lists says
which task has started it.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Annotated, Final, Literal, NamedTuple, Protocol
from urllib.parse import quote, unquote

from pydantic import Field, StringConstraints, model_validator

from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle.capacity import CapacityLimits, CapacityWait
from polysync_airflow.execution.lifecycle.options import OnClear, RecoveryOptions
from polysync_airflow.execution.prices import Amount, CostLimit, Spending
from polysync_airflow.execution.waiter import LogLine


class Incarnation(models.StrictModel):
    """
    What tells a task instance from an earlier one with the same DAG, run id, task and
    map index.

    A DAG run that was deleted may come again under its run id, and the passes of a loop
    have the same key.

    :param dag_run_started_at: when the DAG run started. Clearing a DAG run that has
        ended changes it, too.
    :param clear_number: how often the DAG run was cleared.
    :param region: the pass of the loop or of the expansion, from Airflow 3.4 on; None
        outside of them.
    """

    dag_run_started_at: models.UtcTime | None = None
    clear_number: Annotated[int, Field(ge=0)] = 0
    region: Annotated[str, StringConstraints(max_length=100)] | None = None


class ClearChoice(models.StrictModel):
    """
    What a user chose for one clear of the task. It counts in place of the operator's
    ``on_clear``.

    :param epoch: the epoch that this clear has begun; None until its first try has
        begun.
    """

    on_clear: OnClear
    epoch: Annotated[int, Field(ge=0)] | None = None


class UnattendedStop(models.StrictModel):
    """
    How an execution is stopped when no process of its task is left to do it.

    :param polysync_conn_id: the connection of the task.
    :param after_success: whether also the success of the task, as which a user may mark
        it, ends its execution. With ``wait_for_completion=False``, it does not.
    """

    polysync_conn_id: models.ConnectionId
    after_success: bool = True


class Spent(models.StrictModel):
    """
    What a task with ``max_cost`` has spent in an epoch.

    :param amount: what the attempts that had ended cost.
    :param until: when the last of them had ended.
    """

    epoch: Annotated[int, Field(ge=0)]
    amount: Amount
    until: models.UtcTime


# A job of a step, as its ARN has it: ``training-job/<name>``.
StepJob = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[a-z\-]+/[A-Za-z0-9\-]+$")
]
MAX_JOBS_OF_STEP: Final = 100
# The jobs that each step has had, the last one at the end.
StepJobs = Annotated[
    Mapping[
        models.StepName,
        Annotated[tuple[StepJob, ...], Field(max_length=MAX_JOBS_OF_STEP)],
    ],
    Field(max_length=models.MAX_STEP_ROWS),
]

# The epoch of a record that another incarnation of the task instance has written.
NO_EPOCH: Final = -1
# A name that an administrator gives, or a digest.
DEPLOYMENT_PATTERN: Final = r"[A-Za-z0-9._-]{1,64}"


class ExecutionRecord(models.StrictModel):
    """
    The record that the tries of a task share in a Variable of Airflow, where users can
    edit it.

    :param epoch: ``max_tries`` of the tries that the record belongs to; clearing the
        task begins a new epoch.
    :param deployment: the Airflow deployment whose task instance wrote the record.
    :param incarnation: the incarnation of the task instance that wrote the record.
    :param region_name: AWS region to which the start request was sent.
    :param request: the start request, with its client request token.
    :param execution_arn: ARN of the execution; None until AWS has responded.
    :param resumes: number of resumes that were requested.
    :param resume_token: client request token of the last resume; None before the first
        one.
    :param resumed_at: when AWS accepted the last resume; None until AWS has responded.
    :param try_number: the try that wrote the record last; 0 if none has written it yet,
        because it was made from what AWS says.
    :param stop_requested_by: the try that has asked AWS to stop this attempt of the
        execution; None if no try has.
    :param replaced_by_epoch: the epoch whose tries wait for the end of this execution,
        to start a new one in its place; None if no epoch does.
    :param clear_choice: what a user chose for the clear that follows, or that began
        this epoch; None for ``on_clear``.
    :param replaces: the record of the execution that this one replaces, until AWS has
        accepted the start: if AWS refuses it, that record counts again.
    :param unattended_stop: how the execution is stopped when no process of the task is
        left; None if it goes on then, because of ``stop_on_kill=False``.
    :param capacity: the wait for capacity of the try that has lacked it last; None if
        none has.
    :param spent: what the attempts before this one cost; None if there was none, or
        without ``max_cost``.
    :param step_jobs: the jobs that the steps of this attempt have had: AWS lists only
        the last one of a step that it repeats. None without ``max_cost``, and before
        the first one.
    """

    version: Literal[1] = 1
    deployment: Annotated[str, StringConstraints(pattern=f"^{DEPLOYMENT_PATTERN}$")]
    epoch: Annotated[int, Field(ge=NO_EPOCH)]
    incarnation: Incarnation
    region_name: Annotated[str, StringConstraints(min_length=1)]
    request: models.StartRequest
    execution_arn: models.ExecutionArn | None = None
    resumes: Annotated[int, Field(ge=0)] = 0
    resume_token: models.RequestToken | None = None
    resumed_at: models.UtcTime | None = None
    try_number: Annotated[int, Field(ge=0)]
    stop_requested_by: Annotated[int, Field(ge=0)] | None = None
    replaced_by_epoch: Annotated[int, Field(ge=0)] | None = None
    clear_choice: ClearChoice | None = None
    replaces: ExecutionRecord | None = None
    unattended_stop: UnattendedStop | None = None
    capacity: CapacityWait | None = None
    spent: Spent | None = None
    step_jobs: StepJobs | None = None

    @model_validator(mode="after")
    def _only_a_start_replaces(self) -> ExecutionRecord:
        if self.replaces is None:
            return self
        if self.execution_arn is not None:
            raise ValueError("replaces must not be set once the execution has an ARN")
        if self.replaces.execution_arn is None:
            raise ValueError("replaces must have an execution_arn")
        return self

    @model_validator(mode="after")
    def _resumes_have_a_token(self) -> ExecutionRecord:
        # The number of resumes is part of a stop's client token. With a wrong number,
        # AWS would take the stop for one that it has already made.
        if (self.resumes == 0) != (self.resume_token is None):
            raise ValueError(
                "resume_token must be set if resumes is not 0, and only then"
            )
        return self

    def choice_in(self, epoch: int) -> ClearChoice | None:
        """
        Return what a user chose for the clear that began an epoch; None if nobody has.

        The first try after a choice is that of its clear: a choice is stored only after
        the end of the task.
        """
        choice = self.clear_choice
        if choice is None or choice.epoch not in (None, epoch):
            return None
        return choice.model_copy(update={"epoch": epoch})

    def with_choice_of(self, stored: ExecutionRecord | None) -> ExecutionRecord:
        """
        Return the record with what a user has chosen meanwhile: only the stored record
        has it.

        If another try has begun the epoch of the user's clear, it has used the choice
        up, and this record keeps its own.

        :param stored: the record in the store; None if there is none.
        """
        if stored is None or stored.incarnation != self.incarnation:
            return self
        choice = stored.clear_choice
        is_of_next_clear = choice is not None and choice.epoch is None
        if not is_of_next_clear and stored.epoch != self.epoch:
            return self
        return self.model_copy(update={"clear_choice": choice})

    def without_values(self) -> ExecutionRecord:
        """
        Return the record as it is stored. Whoever may read Variables would see the
        values of the parameters, and once the ARN is known, no try needs them.
        """
        if self.execution_arn is None:
            return self
        request = self.request.model_copy(update={"pipeline_parameters": {}})
        return self.model_copy(update={"request": request})

    def restored_after(self, start: ExecutionRecord) -> ExecutionRecord:
        """
        Return this record as it counts again, now that AWS has refused the start that
        was to replace its execution.

        :param start: the record of that start, which may have a choice of the user.
        """
        choice = start.clear_choice or self.clear_choice
        return self.model_copy(
            update={"try_number": start.try_number, "clear_choice": choice}
        )

    def limit_in(self, epoch: int, limit: CostLimit) -> CostLimit:
        """Return the limit of an attempt, with what was spent before in the epoch."""
        if self.spent is None or self.spent.epoch != epoch:
            return limit
        return self.limit_of_attempt(limit)

    def limit_of_attempt(self, limit: CostLimit) -> CostLimit:
        """
        Return the limit of the attempt, with what was spent before in the epoch that
        has begun it.
        """
        if self.spent is None:
            return limit
        changes = {"spent": self.spent.amount, "since": self.spent.until}
        return limit.model_copy(update=changes)

    def with_spent(self, spent: Spent) -> ExecutionRecord:
        """Return the record before its next attempt, with what was spent."""
        return self.model_copy(update={"spent": spent, "step_jobs": None})

    @property
    def arn(self) -> str:
        """
        The ARN of the execution.

        :raises LookupError: AWS has not responded to the start request yet.
        """
        if self.execution_arn is None:
            raise LookupError("the ARN of the execution is not known yet")
        return self.execution_arn

    @property
    def resume_is_pending(self) -> bool:
        """Whether a resume was requested to which AWS has not responded."""
        if self.waits_for_capacity:
            # AWS has refused it.
            return False
        return self.resume_token is not None and self.resumed_at is None

    @property
    def waits_for_capacity(self) -> bool:
        """
        Whether nothing runs in AWS because a try lacks capacity: its start or its
        resume was refused for a quota, or its execution has failed.
        """
        return self.capacity is not None and self.capacity.nothing_runs

    @property
    def capacity_at_request(self) -> CapacityWait | None:
        """What ``capacity`` becomes before the request is sent again."""
        if self.capacity is None:
            return None
        return self.capacity.model_copy(update={"nothing_runs": False})


_TASK_DIGITS: Final = 10
_INCARNATION_DIGITS: Final = 12
_NAME_END: Final = re.compile(
    rf"(?:^|-)([0-9a-f]{{{_TASK_DIGITS}}})-([0-9a-f]{{{_INCARNATION_DIGITS}}})"
    r"-([0-9]{1,9})-([0-9]{1,9})$"
)


# The colons and signs of run ids stay readable.
_SAFE_IN_PAGE: Final = ":+@"
_PAGE: Final = re.compile(
    r"(?<!\S)Airflow: (https?://\S+?/)?"
    r"(dags/([^/\s]+)/runs/([^/\s]+)/tasks/([^/\s]+)(?:/mapped/([0-9]{1,9}))?)(?!\S)"
)


class NamedTask(Protocol):
    """What names a task instance: one of Airflow's, or a ``TaskKey``."""

    @property
    def dag_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int | None: ...


class TryOfTask(NamedTask, Protocol):
    """A task instance in one of its tries."""

    @property
    def try_number(self) -> int: ...


@dataclass(frozen=True)
class TaskKey:
    """What identifies a task instance, in all of its tries."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, ti: NamedTask) -> TaskKey:
        """Return the key of a task instance."""
        map_index = ti.map_index
        if map_index is None:
            map_index = -1
        return cls(ti.dag_id, ti.run_id, ti.task_id, map_index)

    @classmethod
    def in_description(cls, description: str | None) -> tuple[TaskKey, str] | None:
        """
        Return the task instance that the description of an execution names, and its
        page; None if it names none.

        For people only: whoever starts an execution may give it such a description.
        """
        pages = _PAGE.findall(description or "")
        if not pages:
            return None
        url, page, *parts, index = pages[-1]
        dag_id, run_id, task_id = map(unquote, parts)
        key = cls(dag_id, run_id, task_id, int(index or -1))
        if key.page != page:
            return None
        return key, f"{url}{page}"

    @property
    def page(self) -> str:
        """The path of its page in Airflow 3, which names it exactly."""
        dag_id, run_id, task_id = (
            quote(text, safe=_SAFE_IN_PAGE, errors="replace")
            for text in (self.dag_id, self.run_id, self.task_id)
        )
        page = f"dags/{dag_id}/runs/{run_id}/tasks/{task_id}"
        if self.map_index >= 0:
            page = f"{page}/mapped/{self.map_index}"
        return page


class StartName(NamedTuple):
    """
    What the display name of an execution says of its start.

    :param task_mark: digest of the task instance, see ``TaskIdentity``.
    :param incarnation_mark: digest of its incarnation, too.
    :param number: how many starts of the epoch came before it.
    """

    task_mark: str
    incarnation_mark: str
    epoch: int
    number: int


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """
    What the starts of a task instance have in common.

    :param deployment: what tells the Airflow deployment from another one with the same
        DAGs and run ids.
    :param nonce: set if the start of the DAG run does not tell it from another one with
        the same run id.
    """

    key: TaskKey
    deployment: str
    incarnation: Incarnation
    nonce: str = ""

    def token(self, epoch: int, number: int) -> str:
        """
        Return the client token of a start.

        :param number: how many starts of the epoch came before it.
        """
        return f"{self._token_prefix(epoch)}-{number}"

    def display_name(self, epoch: int, number: int) -> str:
        """
        Return the default display name of a start.

        AWS does not accept run ids such as ``scheduled__2026-01-01T00:00:00+00:00``,
        and run ids that differ only at the end would be equal after truncation. So the
        name ends with digests.
        """
        key = self.key
        end = f"{self.task_mark}-{self.incarnation_mark}-{epoch}-{number}"
        if key.map_index >= 0:
            end = f"{key.map_index}-{end}"
        ids = f"{key.dag_id}/{key.task_id}/{key.run_id}"
        readable = re.sub(r"[^A-Za-z0-9]+", "-", ids)
        readable = readable[: models.DISPLAY_NAME_MAX - len(end) - 1].rstrip("-")
        return f"{readable}-{end}".lstrip("-")

    @property
    def task_mark(self) -> str:
        """A digest of the deployment and the task instance, for the display name."""
        return task_mark(self.key, self.deployment)

    @property
    def incarnation_mark(self) -> str:
        """A digest of these and of the incarnation of the task instance."""
        return self._digest_of_incarnation()[:_INCARNATION_DIGITS]

    def next_number(self, record: ExecutionRecord | None, epoch: int) -> int:
        """
        Return the number of the next start of an epoch.

        :param record: the record of the start before; None if there is none.
        """
        if record is None:
            return 0
        prefix, _, number = record.request.client_request_token.rpartition("-")
        if prefix != self._token_prefix(epoch) or not number.isdecimal():
            # It is of another epoch, or somebody else has made the token.
            return 0
        return int(number) + 1

    def _token_prefix(self, epoch: int) -> str:
        return f"polysync-{self._digest_of_incarnation(epoch)[:40]}"

    def _digest_of_incarnation(self, *parts: int) -> str:
        start = clock.iso_text(self.incarnation.dag_run_started_at)
        incarnation = (start, self.incarnation.region, self.nonce)
        return _digest(self.key, self.deployment, *incarnation, *parts)


def task_mark(key: TaskKey, deployment: str) -> str:
    """Return ``TaskIdentity.task_mark``, which no incarnation changes."""
    return _digest(key, deployment)[:_TASK_DIGITS]


def _digest(key: TaskKey, *parts: object) -> str:
    return hashlib.sha256(json.dumps([astuple(key), *parts]).encode()).hexdigest()


def read_name(*texts: str | None) -> StartName | None:
    """
    Return what an execution says of its start; None if none of its texts ends as
    ``display_name`` does.

    :param texts: its display name and its description.
    """
    match = _match_name(texts)
    if match is None:
        return None
    task_mark, incarnation_mark, epoch, number = match.groups()
    return StartName(task_mark, incarnation_mark, int(epoch), int(number))


def owner_text(*texts: str | None) -> str | None:
    """
    Return the DAG, the task and the DAG run that have started an execution, as far as
    its name has them; None if none of its texts ends as ``display_name`` does.

    For people only: whoever starts an execution may give it such a name.

    :param texts: its display name and its description.
    """
    match = _match_name(texts)
    if match is None:
        return None
    _, _, name = match.string[: match.start()].rpartition(" ")
    return name


def _match_name(texts: Iterable[str | None]) -> re.Match[str] | None:
    for text in filter(None, texts):
        match = _NAME_END.search(text)
        if match:
            return match
    return None


class Command(Enum):
    """What a try does next."""

    # Look in AWS for the execution of earlier tries whose record is missing or cannot
    # be believed.
    LOOK_UP = auto()
    # Start a new execution: first make its request, and check it.
    PREPARE = auto()
    # Send the stored start request for the first time, or after AWS has refused it for
    # a quota.
    START = auto()
    # Describe the execution of the start: AWS may know the token from an earlier try.
    DESCRIBE_STARTED = auto()
    # Look for the execution of the start: AWS knows its token from a request with other
    # parameters.
    LOOK_UP_STARTED = auto()
    # Send the stored start request again: an earlier try may have sent it.
    RESEND_START = auto()
    # Describe the execution.
    DESCRIBE = auto()
    # Resume the execution with the stored token.
    RESUME = auto()
    # The same, where the token was stored before a user cleared the task: to know
    # whether AWS begins the resume, which the user may not want any more.
    RESEND_RESUME = auto()
    # Describe the execution whose resume AWS has refused: an earlier request may have
    # resumed it.
    DESCRIBE_REFUSED = auto()
    # Describe the execution whose resume AWS has accepted, perhaps before the clear.
    DESCRIBE_RESUMED = auto()
    # Add up what the execution has cost, before it is resumed or replaced in its epoch.
    ADD_UP = auto()
    # Request the stop of the execution.
    STOP = auto()
    # Wait for the end of an execution with which the try must not continue, then begin
    # again.
    WAIT_FOR_END = auto()
    # Wait for capacity, then begin again.
    WAIT_FOR_CAPACITY = auto()
    # This is the execution of the task: wait for its end, or take its result.
    WATCH = auto()
    # Raise the error.
    FAIL = auto()


# The requests that a try does not send once a later one is the current one.
COSTS_MONEY: Final = frozenset(
    {Command.START, Command.RESEND_START, Command.RESUME, Command.RESEND_RESUME}
)
# What a process must not do once it was killed.
NOT_WHEN_KILLED: Final = COSTS_MONEY | {
    Command.LOOK_UP,
    Command.PREPARE,
    Command.ADD_UP,
    Command.WATCH,
    Command.WAIT_FOR_END,
    Command.WAIT_FOR_CAPACITY,
}
# With these, a try has its execution, or knows what it has to wait for.
ENDS_THE_START: Final = frozenset(
    {Command.WATCH, Command.WAIT_FOR_END, Command.WAIT_FOR_CAPACITY}
)


class Store(Enum):
    """What becomes of the stored record before a command that stores no other one."""

    KEEP = auto()
    DELETE = auto()


class Prepared(NamedTuple):
    """The request for a new execution is valid."""

    request: models.StartRequest
    region_name: str


class Accepted(NamedTuple):
    """
    AWS accepted the resume or the stop.

    :param at: when, by AWS's clock if its response says so.
    """

    at: datetime


class Started(NamedTuple):
    """
    AWS accepted the start.

    :param at: when, by AWS's clock if its response says so.
    """

    at: datetime
    arn: str


class Refused(NamedTuple):
    """
    The request failed, or could not be made.

    :param at: when, by the clock of the host.
    :param was_repeated: an earlier attempt of the same request got no clear response,
        so that AWS may have accepted it.
    """

    error: PolysyncError
    at: datetime
    was_repeated: bool = False


class Described(NamedTuple):
    """AWS described the execution."""

    at: datetime
    description: models.ExecutionDescription


class ExecutionsListed(NamedTuple):
    """
    AWS listed the newest executions of the pipeline.

    :param pipeline_name: the name or ARN of the pipeline.
    :param claimed: the execution that an unproven record names, if it exists.
    """

    pipeline_name: str
    listed: Sequence[models.ExecutionDescription] = ()
    claimed: models.ExecutionDescription | None = None


class AddedUp(NamedTuple):
    """It is known what the executions of the epoch have cost."""

    spending: Spending


class Killed(NamedTuple):
    """
    The process was killed before it did the command. What was to be stored before is
    stored.

    :param is_shutdown: whether its worker shuts down.
    """

    is_shutdown: bool = False


Event = (
    Prepared
    | Started
    | Accepted
    | Refused
    | Described
    | ExecutionsListed
    | AddedUp
    | Killed
)


@dataclass(frozen=True, slots=True)
class TaskTry:
    """
    One try of a task.

    :param epoch: Airflow's ``max_tries``.
    :param unproven: why the record that is stored cannot be believed; None if it can,
        or if none is stored.
    :param unattended_stop: what the records of this try say.
    :param capacity: how long it waits for capacity; None if it does not.
    :param has_cost_limit: whether it has ``max_cost``.
    :param is_rescheduled: whether an earlier session of this try has ended.
    """

    number: int
    epoch: int
    task: TaskIdentity
    options: RecoveryOptions
    unproven: StoredRecordError | None = None
    unattended_stop: UnattendedStop | None = None
    capacity: CapacityLimits | None = None
    has_cost_limit: bool = False
    is_rescheduled: bool = False

    @property
    def unproven_record(self) -> ExecutionRecord | None:
        """The record that cannot be believed; None if there is no such record."""
        if self.unproven is None:
            return None
        record: ExecutionRecord | None = self.unproven.record
        return record


def info(text: str) -> LogLine:
    """Return a line for the task's log."""
    return LogLine(logging.INFO, text)


def warning(text: str) -> LogLine:
    """Return a warning for the task's log."""
    return LogLine(logging.WARNING, text)
