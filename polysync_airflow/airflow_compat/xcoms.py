"""
XComs in Airflow's database, for commands, for the API server, and for tasks and
triggers of Airflow 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from airflow.models import xcom
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import select, tuple_

from polysync_airflow.airflow_compat import reads
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import json_input

MODEL: Any = getattr(xcom, "XComModel" if CAPABILITIES.task_sdk else "XCom")
# One batch has at most 6 MiB then.
_ROWS_AT_ONCE: Final = 100
# Whoever fills the database with XComs of the longest size costs no more than this.
_MAX_BYTES_OF_ALL: Final = 64 * 1024 * 1024


def read_xcom(key: str, **task: Any) -> Any:
    """
    Return the value of an XCom of a task instance; None if there is none,
    ``UNREADABLE`` if it is too large or cannot be decoded.

    :param task: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    columns = reads.short(MODEL.value, reads.MAX_BYTES_ALONE)
    for row in reads.rows(select(*columns).filter_by(key=key, **task)):
        if row.short is not None:
            return _decoded(row.short)
        if row.stored:
            return json_input.UNREADABLE
    return None


def _decoded(stored: str | bytes) -> Any:
    if not CAPABILITIES.task_sdk:
        # A backend of XComs may store something else than JSON.
        try:
            return MODEL.deserialize_value(SimpleNamespace(value=stored))
        except RecursionError:
            return json_input.UNREADABLE
    return xcom_value(stored)


def xcom_value(stored: str | bytes) -> Any:
    """Return the value of the JSON of an XCom; ``UNREADABLE`` if it has none."""
    try:
        value = json_input.read_json(stored, "The XCom")
    except json_input.UnreadableJsonError:
        return json_input.UNREADABLE
    if isinstance(value, str) and value.startswith(("{", "[")):
        # Airflow may have stored the text of its JSON. Other texts begin so, too.
        with suppress(json_input.UnreadableJsonError):
            return json_input.read_json(value, "The XCom")
    return value


def write_xcom(key: str, value: Any, **task: Any) -> None:
    """
    Store an XCom of a task instance, which must exist.

    :param value: its value, as JSON.
    """
    arguments: dict[str, Any] = {"key": key, "value": value, **task}
    if CAPABILITIES.task_sdk:
        # As the API server stores it.
        arguments["serialize"] = False
    with reads.transaction() as session:
        MODEL.set(session=session, **arguments)


class TaskXCom(NamedTuple):
    """
    An XCom of a task instance.

    :param text: its JSON; None if it is too large.
    :param written_at: when it was stored.
    """

    text: str | None
    written_at: datetime


def task_xcoms(
    keys: Collection[str], *, max_bytes: int = reads.MAX_STORED_BYTES, **task: Any
) -> dict[str, TaskXCom]:
    """
    Return XComs of a task instance that exist, by key. For the API server, from
    Airflow 3 on.

    :param max_bytes: how long each may be.
    :param task: the ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    columns = reads.short(MODEL.value, max_bytes)
    query = select(MODEL.key, MODEL.timestamp, *columns).where(
        MODEL.key.in_(keys), *(getattr(MODEL, name) == task[name] for name in task)
    )
    return {
        row.key: TaskXCom(row.short if row.stored else "null", row.timestamp)
        for row in reads.rows(query)
    }


class XComBatch(NamedTuple):
    """
    Some XComs.

    :param texts: their JSON.
    :param left_out: how many more there are, which are too large.
    """

    texts: Sequence[str]
    left_out: int


def newest_xcoms(
    key: str,
    *,
    dag_ids: Collection[str],
    dag: str,
    operators: Collection[str],
    since: datetime | None,
    limit: int,
) -> Iterator[XComBatch]:
    """
    Yield the XComs with a key of the tasks that have started last, in batches. No
    connection is held meanwhile.

    First, the keys of all rows are read, so the database sorts once. For the API
    server, from Airflow 3 on.

    :param dag_ids: the DAGs that the user may read.
    :param dag: a part of the ids of the DAGs.
    :param operators: the operators of the tasks.
    :param since: when the tasks have started at the earliest; None for any time.
    :param limit: how many are read.
    """
    # It differs between versions.
    own_key = MODEL.__mapper__.primary_key
    query = (
        select(*own_key)
        .join(MODEL.task)
        .where(
            MODEL.key == key,
            MODEL.dag_id.in_(dag_ids),
            MODEL.dag_id.icontains(dag, autoescape=True),
            TaskInstance.operator.in_(operators),
            TaskInstance.start_date.is_not(None),
        )
        .order_by(TaskInstance.start_date.desc())
        .limit(limit)
    )
    if since:
        query = query.where(TaskInstance.start_date >= since)
    keys = [tuple(row) for row in reads.rows(query)]
    columns = reads.short(MODEL.value)
    left = _MAX_BYTES_OF_ALL
    for start in range(0, len(keys), _ROWS_AT_ONCE):
        if left <= 0:
            yield XComBatch((), len(keys) - start)
            return
        some = tuple_(*own_key).in_(keys[start : start + _ROWS_AT_ONCE])
        found = reads.rows(select(*columns).where(some))
        texts = [row.short for row in found if row.short is not None]
        left -= sum(map(len, texts))
        too_large = [row for row in found if row.short is None and row.stored]
        yield XComBatch(texts, len(too_large))
