"""The copy of a record in the XComs, for processes that cannot read the record store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.models import StoredExecution
from polysync_airflow.records.proof import RECORD_KEY, OwnTarget, from_stored
from polysync_airflow.records.signature import TaskKey

log = logging.getLogger(__name__)


def pull_copy(ti: Any, own_target: Callable[[], OwnTarget]) -> StoredExecution | None:
    """
    Return the record in the XComs of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, on a worker or in the DAG processor.
    :param own_target: returns what the task would start now.
    """
    value = ti.xcom_pull(task_ids=ti.task_id, key=RECORD_KEY, map_indexes=ti.map_index)
    return proven_copy(value, ti, own_target)


def proven_copy(value: Any, ti: Any, own_target: Callable[[], OwnTarget]) -> StoredExecution | None:
    """
    Return the record that an XCom holds; None if it holds none, or if it is not proven.

    :param value: the value of the XCom.
    :param ti: the task instance.
    :param own_target: returns what the task would start now.
    """
    try:
        return (
            None
            if value is None
            else from_stored(value, TaskKey.of(ti), own_target, place=f"the XCom {RECORD_KEY!r}")
        )
    except StoredRecordError as error:
        log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
        return None
