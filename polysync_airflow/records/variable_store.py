"""The record store in a Variable for each task instance, where Airflow has no task state store."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.task_instances import DELETED, previous_run, read_state
from polysync_airflow.airflow_compat.variables import delete_variable, get_variable, set_variable
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle.ownership import Owner, owner_by_record
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.copies import pull_copy
from polysync_airflow.records.port import RecordStore
from polysync_airflow.records.proof import RECORD_KEY, to_stored
from polysync_airflow.records.signature import TaskKey

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

KEY_PREFIX: Final = f"{RECORD_KEY}."
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


class VariableRecordStore(RecordStore):
    """
    Keeps the record in a Variable, which a worker can write in all versions of Airflow.

    A Variable can be written by every try, whether Airflow has replaced it or not. So each try that continues
    with an execution writes its number into the record, and a try that finds a later number leaves the record
    and the execution alone.

    The Variable is kept after the end of the task: if the process died between its deletion and the moment
    in which Airflow stores that the task has succeeded, the retry would start a second execution. The task
    deletes that of the previous DAG run when it starts.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._key = variable_key(self._task)
        self.place = f"the Variable {self._key!r} under Admin > Variables"

    def announce_stop(self, record: StoredExecution) -> Owner:
        """Find out whether this try may stop its execution, and store that it is going to do so."""
        owner = self.owner(record)
        if owner in (Owner.THIS_TRY, Owner.NOBODY):
            try:
                self._put(record)
            except Exception as error:
                return self._unknown(error)
        return owner

    def owner(self, record: StoredExecution) -> Owner:
        """Return who decides about the execution of this try, without a change."""
        try:
            stored = self._read_if_proven()
            state = read_state(self._ti)
            copy = None if state == DELETED else pull_copy(self._ti)
        except Exception as error:
            return self._unknown(error)
        return owner_by_record(record, self.try_number, state, stored, copy)

    def delete_leftovers(self) -> None:
        """Delete the Variable of the previous DAG run's task instance, if that DAG run has ended."""
        try:
            run = previous_run(self._ti)
            if run and run.has_ended:
                delete_variable(variable_key(replace(self._task, run_id=run.run_id)))
        except Exception as error:
            log.warning("The record of the previous DAG run cannot be deleted: %s", error)

    def _get(self) -> Any:
        text = get_variable(self._key)
        if text is None:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        record = value.get(RECORD) if isinstance(value, dict) else value
        # A Variable without a record in it is damaged, which is not the same as no record.
        return text if record is None else record

    def _set(self, record: StoredExecution) -> dict[str, Any]:
        stored = self._read_if_proven()
        if stored and stored.try_number > self.try_number:
            raise PolysyncError(
                f"Try {stored.try_number} of this task continues with its execution, so try "
                f"{self.try_number} ends.",
                permanent=False,
            )
        return self._put(record)

    def _read_if_proven(self) -> StoredExecution | None:
        # This try holds a record of its own. What somebody else has written in its place must not keep it
        # from its work, and above all not from the stop of its execution.
        try:
            return self.read()
        except StoredRecordError as error:
            log.warning("%s", error)
            return None

    def _put(self, record: StoredExecution) -> dict[str, Any]:
        value = to_stored(record, self._task)
        text = json.dumps({TASK: asdict(self._task), RECORD: value})
        set_variable(
            self._key,
            text,
            f"The SageMaker pipeline execution of task {self._task.task_id} of DAG {self._task.dag_id}, try "
            f"{self.try_number}. Do not edit or delete it while the task runs.",
        )
        return value

    def _remove(self) -> None:
        delete_variable(self._key)
