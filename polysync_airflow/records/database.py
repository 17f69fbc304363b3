"""
Records in Airflow's database, without a task: choices of users, the expiry, and what
commands say of them.

A running try and the API server must not overwrite each other: the API server writes
only if the task has ended.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple

from polysync_airflow.airflow_compat import database, reads
from polysync_airflow.airflow_compat.database import StoredVariable
from polysync_airflow.deployment import find_deployment
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution import clock, what_next
from polysync_airflow.execution.lifecycle.instructions import (
    ClearChoice,
    ExecutionRecord,
    TaskKey,
)
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.lifecycle.orphans import (
    ENDED_STATES,
    why_task_keeps_its_choice,
)
from polysync_airflow.execution.lifecycle.provenance import has_never_begun
from polysync_airflow.records import serialization
from polysync_airflow.records.keys import KEY_PREFIX, place_of, variable_key


class StoredTask(NamedTuple):
    """
    The task of a record.

    :param dag_run_state: the state of its DAG run; None if it was deleted.
    :param ended_at: when its DAG run has ended. If it was deleted, when it had started.
        None if that is not known.
    :param task_states: the states of the task instance; empty if it was deleted.
    """

    key: TaskKey
    dag_run_state: str | None
    ended_at: datetime | None
    task_states: tuple[str | None, ...]

    def has_ended_before(self, time: datetime) -> bool:
        """
        Return whether the task has ended before a time, and cannot run again by itself.
        """
        if self.dag_run_state not in (None, "success", "failed"):
            return False
        if not ENDED_STATES.issuperset(self.task_states):
            return False
        return self.ended_at is not None and self.ended_at < time


def stored_task(variable: StoredVariable) -> StoredTask | None:
    """
    Return the task of the record in a Variable; None if there is no such Variable.

    :raises StoredRecordError: it holds no record of a task. The message says why.
    """
    if not variable.exists:
        return None
    if variable.value is None:
        raise StoredRecordError("it cannot be decrypted with [core] fernet_key")
    key = serialization.task_in(variable.value)
    state, ended_at = variable.dag_run(key.dag_id, key.run_id)
    states = tuple(variable.states_of(**asdict(key)))
    if state is None:
        ended_at = serialization.dag_run_start_in(variable.value)
    return StoredTask(key, state, ended_at, states)


class NoRecordError(PolysyncError):
    """The task instance has no record of an execution."""


class TaskNotEndedError(PolysyncError):
    """A try of the task instance runs or is on its way, and may write the record."""


def _variable_of(
    task: TaskKey, *, lock: bool, max_bytes: int = reads.MAX_STORED_BYTES
) -> AbstractContextManager[StoredVariable]:
    # The API server answers many requests at once, so it does without the few records
    # that are larger: with very long parameters whose start was refused, or with the
    # jobs of many steps.
    return database.stored_variable(variable_key(task), lock=lock, max_bytes=max_bytes)


def read_clear_choice(task: TaskKey) -> OnClear | None:
    """
    Return what a user chose for the next clear; None if ``on_clear`` decides.

    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=False) as variable:
        choice = _record_in(variable, task).clear_choice
    if choice is None or choice.epoch is not None:
        return None
    return choice.on_clear


def next_of(
    key: TaskKey, task: what_next.TaskNow, run: what_next.PushedRun | None
) -> list[what_next.Sentence]:
    """
    Return what comes next for a task, as ``what_comes_next`` does, with what somebody
    has chosen in the tab.
    """
    choice = None
    if what_next.needs_choice(task, run):
        # Without a record, or one that can be believed, nobody has chosen anything.
        with suppress(PolysyncError):
            choice = read_clear_choice(key)
    return what_next.what_comes_next(task, run, clock.now(), choice)


def store_clear_choice(task: TaskKey, on_clear: OnClear | None) -> None:
    """
    Store what the next clear of a task does, in place of its ``on_clear``.

    :param on_clear: what it does; None withdraws a choice that was stored before.
    :raises TaskNotEndedError: a try of the task runs or is on its way.
    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=True) as variable:
        record = _record_in(variable, task)
        problem = why_task_keeps_its_choice(variable.states_of(**asdict(task)))
        if problem:
            raise TaskNotEndedError(problem)
        choice = None
        if on_clear is not None:
            choice = ClearChoice(on_clear=on_clear)
        changed = record.model_copy(update={"clear_choice": choice})
        variable.replace(serialization.to_variable(changed, task))


def imported_records() -> list[str]:
    """
    Return the keys of the records whose task has never begun in this database. For
    commands.
    """
    keys = []
    for variable in database.stored_variables(KEY_PREFIX):
        with suppress(StoredRecordError):
            task = serialization.task_in(variable.value or "")
            if is_imported(variable, task):
                keys.append(variable_key(task))
    return keys


def is_imported(variable: StoredVariable, task: TaskKey) -> bool:
    """
    Return whether no try of a task instance has begun in the database of a Variable, so
    that another deployment has written its record.
    """
    key = asdict(task)
    numbers = [number for _, number in variable.tries_of(**key)]
    return has_never_begun(numbers, lambda: variable.has_begun(**key))


def stored_record(task: TaskKey) -> ExecutionRecord | None:
    """
    Return the record of a task instance; None if there is none. For commands.

    :raises StoredRecordError: the record is damaged, or was not written by this task,
        or is that of another deployment.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=False, max_bytes=reads.MAX_BYTES_ALONE) as variable:
        if not variable.exists:
            return None
        return _record_in(variable, task)


class OwnTask(NamedTuple):
    """
    The task that has an execution.

    :param states: the states of the task instance; empty if it was deleted.
    """

    key: TaskKey
    record: ExecutionRecord
    states: tuple[str | None, ...]


def own_task(task: TaskKey) -> OwnTask | None:
    """
    Return a task instance with its record; None if it has none. For commands.

    :raises StoredRecordError: as ``stored_record``.
    :raises PolysyncError: as ``stored_record``.
    """
    with _variable_of(task, lock=False, max_bytes=reads.MAX_BYTES_ALONE) as variable:
        if not variable.exists:
            return None
        record = _record_in(variable, task)
        return OwnTask(task, record, tuple(variable.states_of(**asdict(task))))


def states_of(task: TaskKey) -> tuple[str | None, ...]:
    """
    Return the states of a task instance; empty if there is none. For commands.
    """
    with database.stored_variable("", lock=False) as variable:
        return tuple(variable.states_of(**asdict(task)))


def find_own_task(execution_arn: str, described: TaskKey | None) -> OwnTask | None:
    """
    Return the task that has an execution, by the records of this deployment; None if no
    task has it. For commands.

    :param described: the task that the description of the execution names, which
        whoever starts executions can write.
    :raises StoredRecordError: as ``stored_record``, for that task.
    :raises PolysyncError: as ``stored_record``, for that task.
    """

    def has_it(found: OwnTask | None) -> bool:
        if found is None or not found.states:
            # The task was deleted.
            return False
        return (found.record.execution_arn or "").lower() == execution_arn.lower()

    if described:
        found = own_task(described)
        if has_it(found):
            return found
    for variable in database.stored_variables(KEY_PREFIX):
        # One that is damaged is left out.
        with suppress(PolysyncError):
            text = variable.value or ""
            if execution_arn.lower() in text.lower():
                found = own_task(serialization.task_in(text))
                if has_it(found):
                    return found
    return None


def _record_in(variable: StoredVariable, task: TaskKey) -> ExecutionRecord:
    if not variable.exists:
        raise NoRecordError("The task has no record of an execution.")
    key = variable_key(task)
    try:
        text = variable.value
    except StoredRecordError as error:
        raise StoredRecordError(
            f"The record of the task is not used: {error}. Look at {place_of(key)}."
        ) from None
    if text is None:
        raise PolysyncError(
            f"The Variable {key!r} cannot be decrypted with the deployment's Fernet key"
            " ([core] fernet_key)."
        )
    record = serialization.from_variable(text, task)
    deployment = find_deployment(variable.team, variable.value_of)
    serialization.check_deployment(record, deployment, place=place_of(key))
    return record
