"""Which of the stored records no task needs any more, as Airflow's database says."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.airflow_compat.database import StoredVariable
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.record import Incarnation
from polysync_airflow.records.store import RECORD, TASK

# In all other states, a try of the task runs or is on its way.
ENDED_STATES: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_ENDED_DAG_RUN: Final = (None, "success", "failed")


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
        may_run = self.dag_run_state not in _ENDED_DAG_RUN or not ENDED_STATES.issuperset(self.task_states)
        return not may_run and self.ended_at is not None and self.ended_at < time


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
        return Incarnation.model_validate(value[RECORD]["incarnation"]).dag_run_started_at
    return None
