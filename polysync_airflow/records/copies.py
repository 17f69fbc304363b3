"""The copy of a record in the XComs, for processes that cannot read the record store."""

from __future__ import annotations

import logging
from typing import Any

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.identity import TaskKey
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.records.proof import RECORD_KEY, from_stored

log = logging.getLogger(__name__)


def pull_copy(ti: Any) -> StoredExecution | None:
    """
    Return the record in the XComs of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, on a worker or in the DAG processor.
    """
    value = ti.xcom_pull(task_ids=ti.task_id, key=RECORD_KEY, map_indexes=ti.map_index)
    return proven_copy(value, ti)


def proven_copy(value: Any, ti: Any) -> StoredExecution | None:
    """Return the record that an XCom holds; None if it holds none, or if it is not proven."""
    try:
        return None if value is None else from_stored(value, TaskKey.of(ti), place=f"the XCom {RECORD_KEY!r}")
    except StoredRecordError as error:
        log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
        return None
