"""
What a user chose for the next clear of a task, written into its record by the API server.

A running try and the API server must not overwrite each other. A try writes only if the record is what it has
read or written last, and the API server only if the task has ended.
"""

from __future__ import annotations

from dataclasses import asdict

from polysync_airflow.airflow_compat.database import StoredVariable, stored_variable
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.record import ClearChoice, OnClear, StoredExecution
from polysync_airflow.records.expiry import ENDED_STATES
from polysync_airflow.records.proof import to_stored
from polysync_airflow.records.store import from_variable, place_of, to_variable, variable_key


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

    with stored_variable(variable_key(task), lock=True) as variable:
        record = _record_in(variable, task)
        states = variable.states_of(**asdict(task))
        if not states or not ENDED_STATES.issuperset(states):
            raise TaskNotEndedError(f"The task has not ended. Its state is {', '.join(map(str, states))}.")
        choice = None if on_clear is None else ClearChoice(on_clear=on_clear)
        changed = record.model_copy(update={"clear_choice": choice})
        variable.replace(to_variable(to_stored(changed, task), task))


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
