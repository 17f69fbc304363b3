"""
What is done to records in Airflow's database, without a task: the choice for the next clear, and the expiry.

A running try and the API server must not overwrite each other. A try writes only if the record is what it has
read or written last, and the API server only if the task has ended.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.airflow_compat.database import StoredVariable, stored_variable
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.instructions import StoredExecution, TaskKey
from polysync_airflow.records import store
from polysync_airflow.records.proof import to_stored

# In all other states, a try of the task runs or is on its way.
ENDED_STATES: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class StoredTask:
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
        key = TaskKey(**value[store.TASK])
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
        return instructions.Incarnation.model_validate(value[store.RECORD]["incarnation"]).dag_run_started_at
    return None


class NoRecordError(PolysyncError):
    """The task instance has no record of an execution."""


class TaskNotEndedError(PolysyncError):
    """A try of the task instance runs or is on its way, and may write the record."""


def read_clear_choice(task: TaskKey) -> instructions.OnClear | None:
    """
    Return what a user chose for the next clear; None if ``on_clear`` decides.

    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt the record.
    """
    with stored_variable(store.variable_key(task), lock=False) as variable:
        choice = _record_in(variable, task).clear_choice
    return choice.on_clear if choice and choice.epoch is None else None


def store_clear_choice(task: TaskKey, on_clear: instructions.OnClear | None) -> None:
    """
    Store what the next clear of a task does, in place of its ``on_clear``.

    :param on_clear: what it does; None withdraws a choice that was stored before.
    :raises TaskNotEndedError: a try of the task runs or is on its way.
    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt the record.
    """

    with stored_variable(store.variable_key(task), lock=True) as variable:
        record = _record_in(variable, task)
        states = variable.states_of(**asdict(task))
        if not states or not ENDED_STATES.issuperset(states):
            raise TaskNotEndedError(f"The task has not ended. Its state is {', '.join(map(str, states))}.")
        choice = None if on_clear is None else instructions.ClearChoice(on_clear=on_clear)
        changed = record.model_copy(update={"clear_choice": choice})
        variable.replace(store.to_variable(to_stored(changed, task), task))


def _record_in(variable: StoredVariable, task: TaskKey) -> StoredExecution:
    if not variable.exists:
        raise NoRecordError("The task has no record of an execution.")
    text = variable.value
    if text is None:
        raise PolysyncError(
            f"The Variable {store.variable_key(task)!r} cannot be decrypted with the deployment's Fernet key "
            "([core] fernet_key)."
        )
    return store.from_variable(text, task, place=store.place_of(store.variable_key(task)))
