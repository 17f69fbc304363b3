"""Task instances and their records in the database of this process."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records import variable_key


def store_task(task: TaskKey, state: str | None, value: str | None) -> None:
    """
    Store a task instance in a state, and its record. Its DAG and its DAG run do not
    exist.

    :param value: the value of the Variable with the record; None for no Variable.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import insert, text

    remove_task(task)
    map_index = "map_index"
    if map_index not in TaskInstance.__table__.columns:
        map_index = "region_index"  # the name from Airflow 3.4 on
    with create_session() as session:
        session.execute(text("PRAGMA foreign_keys = OFF"))
        key = {
            name: value for name, value in asdict(task).items() if name != "map_index"
        }
        row = {**key, map_index: task.map_index, "state": state}
        row |= {"pool": "default_pool", "try_number": 1, "pool_slots": 1}
        session.execute(insert(TaskInstance.__table__).values(row))
        if value is not None:
            values = {
                "key": variable_key(task),
                "val": value,
                "description": "of try 1",
            }
            session.add(Variable(**values))  # type: ignore[no-untyped-call]


def remove_task(task: TaskKey) -> None:
    """Delete the task instances of the task's DAG, and the record of the task."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(TaskInstance).where(TaskInstance.dag_id == task.dag_id))
        session.execute(delete(Variable).where(Variable.key == variable_key(task)))


def stored_variable(task: TaskKey) -> Any:
    """
    Return value and description of the Variable with a task's record; None if there is
    none.
    """
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        row = session.scalar(select(Variable).where(Variable.key == variable_key(task)))
        return row and (row.get_val(), row.description)
