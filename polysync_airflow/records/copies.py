"""The copy of a record in the XComs, for processes that cannot read the record store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from polysync_airflow.airflow_compat.task_instances import find_own_xcom
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.identity import TaskKey
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.records.proof import RECORD_KEY, from_stored

log = logging.getLogger(__name__)

# A field of the copy. A try that has not written a record has only this one.
TRY_NUMBER: Final = "try_number"


def pull_copy(ti: Any) -> StoredExecution | None:
    """
    Return the record in the XComs of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, on a worker or in the DAG processor.
    """
    return proven_copy(_pull(ti), ti)


def pull_number(ti: Any) -> int:
    """Return the number of the try that the XComs of a task instance are of; 0 if they do not say so."""
    return _number_in(_pull(ti))


def find_number(ti: Any) -> int:
    """Return what ``pull_number`` returns, of a task that may have no XCom yet; for a mapped one, 0."""
    return _number_in(find_own_xcom(ti, RECORD_KEY))


def _number_in(value: Any) -> int:
    number = value.get(TRY_NUMBER) if isinstance(value, Mapping) else None
    return number if isinstance(number, int) else 0


def proven_copy(value: Any, ti: Any) -> StoredExecution | None:
    """Return the record that an XCom holds; None if it holds none, or if it is not proven."""
    if value is None or (isinstance(value, Mapping) and value.keys() == {TRY_NUMBER}):
        return None
    try:
        return from_stored(value, TaskKey.of(ti), place=f"the XCom {RECORD_KEY!r}")
    except StoredRecordError as error:
        log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
        return None


def _pull(ti: Any) -> Any:
    return ti.xcom_pull(task_ids=ti.task_id, key=RECORD_KEY, map_indexes=ti.map_index)
