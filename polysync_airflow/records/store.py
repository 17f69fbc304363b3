"""
The record of a task's execution, kept between the tries in a Variable for each task instance.

The fields of the record are defined by ``StoredExecution`` in ``execution/lifecycle/instructions.py``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import Context, Variable
from pydantic import ValidationError

from polysync_airflow.airflow_compat.task_instances import DELETED, find_own_xcom, get_variable, read_state
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.decisions import Owner, is_over, owner_by_record
from polysync_airflow.execution.lifecycle.instructions import OnClear, StoredExecution, TaskKey
from polysync_airflow.records import proof

if TYPE_CHECKING:
    # It imports the models of Airflow's database, which workers must not use.
    from polysync_airflow.airflow_compat.database import StoredVariable

log = logging.getLogger(__name__)

KEY_PREFIX: Final = f"{proof.RECORD_KEY}."
# The key of a Variable has at most 250 characters.
_READABLE_CHARACTERS: Final = 200
TASK: Final = "task"
RECORD: Final = "record"


def variable_key(task: TaskKey) -> str:
    """
    Return the key of the Variable of a task instance: ``polysync_execution.<dag>.<task>.<map>.<run>.<hash>``.

    Secrets backends are asked for the key too. It has only characters that those of AWS allow.
    """
    index = () if task.map_index < 0 else (str(task.map_index),)
    parts = (task.dag_id, task.task_id, *index, task.run_id)
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", ".".join(parts))[:_READABLE_CHARACTERS]
    unique = hashlib.sha256(json.dumps(asdict(task), sort_keys=True).encode()).hexdigest()[:16]
    return f"{KEY_PREFIX}{readable}.{unique}"


def place_of(key: str) -> str:
    """Return where a user finds a record, and deletes it."""
    return f"the Variable {key!r} under Admin > Variables"


def to_variable(value: dict[str, Any], task: TaskKey) -> str:
    """
    Return the text of the Variable that holds a record.

    :param value: the record, as ``to_stored`` returns it.
    """
    return json.dumps({TASK: asdict(task), RECORD: value})


def from_variable(text: str, task: TaskKey, *, place: str) -> StoredExecution:
    """
    Return the record that the text of a Variable holds.

    :raises StoredRecordError: the text holds no record of this task instance.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    record = value.get(RECORD) if isinstance(value, dict) else value
    # A Variable without a record in it is damaged, which is not the same as no record.
    return proof.from_stored(text if record is None else record, task, place=place)


class RecordStore:
    """
    Reads and writes the record of a task's execution, which outlives tries, crashes, deferrals and clears.

    A worker can write Variables in all versions of Airflow. (The task state store of Airflow 3.3 is not used:
    from 3.4 on, Airflow empties it when a user clears the task.)

    Every try can write the Variable, whether Airflow has replaced it or not. So each try that continues with
    an execution writes its number into the record. A try that finds another record than the one that it has
    read or written last, or that the task is over, leaves the record and the execution alone.

    Each write also pushes a copy as an XCom. Airflow deletes it when the next try begins, which tells the
    tries apart, and the triggerer and the DAG processor read it. Before its first write, a try has only its
    number there.

    A task that succeeds deletes its Variable. If its process dies before Airflow stores that it has
    succeeded, the retry gets the same execution by its client token. The Variable of any other task is kept:
    its clear needs it, whichever DAG runs have come since.
    """

    def __init__(self, context: Context) -> None:
        self._ti: Any = context["ti"]
        self._task = TaskKey.of(self._ti)
        self._key = variable_key(self._task)
        self.place = place_of(self._key)
        # Where earlier versions of this provider kept the record, on Airflow 3.3.
        self._earlier_store: Any = context.get("task_state_store")
        self._is_in_earlier_store = False
        self._last_known: StoredExecution | None = None
        self._has_claimed = False
        # Why the record that is stored cannot be believed.
        self.lost: StoredRecordError | None = None

    @property
    def try_number(self) -> int:
        """The number of this try."""
        return int(self._ti.try_number)

    def read(self) -> StoredExecution | None:
        """Return the record that earlier tries stored; None if there is none, or if it cannot be believed."""
        self._last_known = self._read_if_proven()
        return self._last_known

    def claim(self) -> StoredExecution | None:
        """
        Return what ``read`` returns, for a try that begins, and push its number in place of the copy.

        So a process finds out that it was replaced, if it was frozen before it could write a record.

        :raises PolysyncError: a later try has begun.
        :raises Exception: Airflow does not respond.
        """
        record = self.read()
        number = proof.number_in(find_own_xcom(self._ti, proof.RECORD_KEY))
        if number > self.try_number:
            raise self._replaced_error()
        if number < self.try_number:
            self._push_number()
        self._has_claimed = True
        return record

    def write(self, record: StoredExecution) -> None:
        """
        Store the record.

        :raises PolysyncError: another try has written a record meanwhile, or Airflow has ended this one.
        :raises Exception: Airflow does not respond.
        """
        self._raise_if_replaced()
        self._ti.xcom_push(proof.RECORD_KEY, self._put(record))
        self._forget_earlier_record()

    def delete(self) -> None:
        """
        Delete the record. Only correct if AWS has certainly not started an execution.

        :raises PolysyncError: another try has written a record meanwhile, or Airflow has ended this one.
        :raises Exception: Airflow does not respond.
        """
        self._raise_if_replaced()
        Variable.delete(self._key)
        self._last_known = None
        self._forget_earlier_record()
        self._push_number()

    def announce_stop(self, record: StoredExecution) -> Owner:
        """
        Find out whether this try may stop its execution, and store that it is going to do so.

        By the stored number of the try, a later try tells this stop from a cancellation by somebody else.
        """
        owner, stored, state = self._owner(record)
        # A task instance that was deleted has no later try, and Airflow 3.4 does not let it write.
        if owner in (Owner.THIS_TRY, Owner.NOBODY) and state != DELETED:
            try:
                self._put(record.with_choice_of(stored))
            except Exception as error:
                return self._unknown(error)
        return owner

    def withdraw_stop(self, record: StoredExecution) -> None:
        """Store that a stop that was announced has failed. Raises no error: the task ends with its own."""
        try:
            self._raise_if_overwritten()
            self._put(record.with_choice_of(self._last_known))
        except Exception as error:
            log.warning("The record cannot be updated: %s", error)

    def owner(self, record: StoredExecution) -> Owner:
        """Return who decides about the execution of this try, without a change."""
        return self._owner(record)[0]

    def _owner(self, record: StoredExecution) -> tuple[Owner, StoredExecution | None, str | None]:
        try:
            stored = self._read_if_proven()
            state = read_state(self._ti)
            copy = None if state == DELETED else proof.pull_copy(self._ti)
        except Exception as error:
            return self._unknown(error), None, None
        return owner_by_record(record, self.try_number, state, stored, copy), stored, state

    def forget(self) -> None:
        """
        Delete the record of a task that succeeds. Raises no error: the task has done its work.

        After a deferral, the record is read here. It is this task's, unless a later try has written it.
        """
        try:
            if self._last_known is None:
                stored = self.read()
                if stored and stored.try_number > self.try_number:
                    raise self._replaced_error()
                self._raise_if_over()
            else:
                self._raise_if_replaced()
            Variable.delete(self._key)
        except Exception as error:
            log.warning("The record of this task cannot be deleted: %s", error)

    def _read(self) -> StoredExecution | None:
        text = get_variable(self._key)
        if text is not None:
            return from_variable(text, self._task, place=self.place)
        value = self._earlier_store.get(proof.RECORD_KEY) if self._earlier_store else None
        if value is None:
            # It is not written there any more.
            self._earlier_store = None
            return None
        self._is_in_earlier_store = True
        place = f"the key {proof.RECORD_KEY!r} on the tab Task State Store of the task instance"
        return proof.from_stored(value, self._task, place=place)

    def _read_if_proven(self) -> StoredExecution | None:
        # This try holds a record of its own. What somebody else has written in its place must not keep it
        # from its work, and above all not from the stop of its execution.
        try:
            return self._read()
        except StoredRecordError as error:
            if self.lost is None:
                log.warning("%s It is not used: %s.", error.problem, self.place)
            self.lost = error
            return None

    def _raise_if_replaced(self) -> None:
        self._raise_if_overwritten()
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        state = read_state(self._ti)
        if is_over(state):
            raise PolysyncError(
                f"Airflow does not run try {self.try_number} of this task any longer (state {state}), so it "
                "ends.",
                permanent=False,
            )

    def _raise_if_overwritten(self) -> None:
        stored = self._read_if_proven()
        if stored and stored != self._last_known:
            raise PolysyncError(
                f"Another process continues with the execution of this task (try {stored.try_number}), so "
                f"this one (try {self.try_number}) ends.",
                permanent=False,
            )
        # Only a record with the number of this try tells it from a later one that has not written either.
        is_own = stored is not None and stored.try_number == self.try_number
        if self._has_claimed and not is_own:
            # Lower if an earlier try was frozen right at its begin.
            number = proof.number_in(proof.pull(self._ti))
            if not 0 < number <= self.try_number:
                raise self._replaced_error()

    def _replaced_error(self) -> PolysyncError:
        return PolysyncError(
            f"A later try of this task has begun, so this one (try {self.try_number}) ends.", permanent=False
        )

    def _push_number(self) -> None:
        self._ti.xcom_push(proof.RECORD_KEY, {proof.TRY_NUMBER: self.try_number})

    def _put(self, record: StoredExecution) -> dict[str, Any]:
        record = record.without_values()
        value = proof.to_stored(record, self._task)
        description = (
            f"The SageMaker pipeline execution of task {self._task.task_id} of DAG {self._task.dag_id}, try "
            f"{self.try_number}. Do not edit or delete it while the task runs."
        )
        Variable.set(self._key, to_variable(value, self._task), description=description)
        self._last_known = record
        return value

    def _forget_earlier_record(self) -> None:
        # It would count again after the deletion of the Variable.
        if self._is_in_earlier_store:
            self._earlier_store.delete(proof.RECORD_KEY)
            self._is_in_earlier_store = False

    def _unknown(self, error: Exception) -> Owner:
        log.warning("Whether a later try has the execution cannot be read from Airflow: %s", error)
        return Owner.UNKNOWN


# ---- records in Airflow's database, without a task: the choice for the next clear, and the expiry
#
# A running try and the API server must not overwrite each other. A try writes only if the record is what it
# has read or written last, and the API server only if the task has ended.

# In all other states, a try of the task runs or is on its way.
ENDED_STATES: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class StoredTask(NamedTuple):
    """
    The task of a record.

    :param dag_run_state: the state of its DAG run; None if it was deleted.
    :param ended_at: when its DAG run has ended. If it was deleted, when it had started. None if that is not
        known.
    :param task_states: the states of the task instance; empty if it was deleted.
    """

    key: TaskKey
    dag_run_state: str | None
    ended_at: datetime | None
    task_states: tuple[str | None, ...]

    def has_ended_before(self, time: datetime) -> bool:
        """Return whether the task has ended before a time, and cannot run again by itself."""
        is_over = self.dag_run_state in (None, "success", "failed") and ENDED_STATES.issuperset(
            self.task_states
        )
        return is_over and self.ended_at is not None and self.ended_at < time


def stored_task(variable: StoredVariable) -> StoredTask | None:
    """Return the task of the record in a Variable; None if it holds none, or cannot be decrypted."""
    try:
        value = json.loads(variable.value or "")
        key = TaskKey(**value[TASK])
        text_fields = (key.dag_id, key.run_id, key.task_id)
        if not all(isinstance(text, str) for text in text_fields) or not isinstance(key.map_index, int):
            return None
    except (KeyError, TypeError, ValueError):
        return None
    state, ended_at = variable.dag_run(key.dag_id, key.run_id)
    states = tuple(variable.states_of(**asdict(key)))
    return StoredTask(key, state, _started_at(value) if state is None else ended_at, states)


def _started_at(value: Any) -> datetime | None:
    with suppress(ValidationError, KeyError, TypeError):
        return instructions.Incarnation.model_validate(value[RECORD]["incarnation"]).dag_run_started_at
    return None


class NoRecordError(PolysyncError):
    """The task instance has no record of an execution."""


class TaskNotEndedError(PolysyncError):
    """A try of the task instance runs or is on its way, and may write the record."""


def read_clear_choice(task: TaskKey) -> OnClear | None:
    """
    Return what a user chose for the next clear; None if ``on_clear`` decides.

    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt the record.
    """
    from polysync_airflow.airflow_compat.database import stored_variable

    with stored_variable(variable_key(task), lock=False) as variable:
        choice = _record_in(variable, task).clear_choice
    return choice.on_clear if choice and choice.epoch is None else None


def store_clear_choice(task: TaskKey, on_clear: OnClear | None) -> None:
    """
    Store what the next clear of a task does, in place of its ``on_clear``.

    :param on_clear: what it does; None withdraws a choice that was stored before.
    :raises TaskNotEndedError: a try of the task runs or is on its way.
    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt the record.
    """
    from polysync_airflow.airflow_compat.database import stored_variable

    with stored_variable(variable_key(task), lock=True) as variable:
        record = _record_in(variable, task)
        states = variable.states_of(**asdict(task))
        if not states or not ENDED_STATES.issuperset(states):
            raise TaskNotEndedError(f"The task has not ended. Its state is {', '.join(map(str, states))}.")
        choice = None if on_clear is None else instructions.ClearChoice(on_clear=on_clear)
        changed = record.model_copy(update={"clear_choice": choice})
        variable.replace(to_variable(proof.to_stored(changed, task), task))


def _record_in(variable: StoredVariable, task: TaskKey) -> StoredExecution:
    if not variable.exists:
        raise NoRecordError("The task has no record of an execution.")
    text = variable.value
    if text is None:
        raise PolysyncError(
            f"The Variable {variable_key(task)!r} cannot be decrypted with the deployment's Fernet key "
            "([core] fernet_key)."
        )
    return from_variable(text, task, place=place_of(variable_key(task)))
