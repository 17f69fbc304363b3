"""Task instances, their records and XComs in the database of this process."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import variable_key


def store_task(task: TaskKey, state: str | None, value: str | None) -> None:
    """
    Store a DAG, a task instance of it in a state, and its record. Its DAG run does not
    exist.

    :param value: the value of the Variable with the record; None for no Variable.
    """
    from airflow.models.dag import DagModel
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
        values = {"dag_id": task.dag_id, "bundle_name": "bundle"}
        session.merge(DagModel(**values))  # type: ignore[no-untyped-call]
        key = {
            name: value for name, value in asdict(task).items() if name != "map_index"
        }
        row = {**key, map_index: task.map_index, "state": state}
        row |= {"pool": "default_pool", "try_number": 1, "pool_slots": 1}
        session.execute(insert(TaskInstance.__table__).values(row))
        if value is not None:
            values = {"key": variable_key(task), "val": value}
            values["description"] = "of try 1"
            session.add(Variable(**values))  # type: ignore[no-untyped-call]


def remove_task(task: TaskKey) -> None:
    """Delete the task's DAG with its task instances, and the record of the task."""
    from airflow.models.dag import DagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(TaskInstance).where(TaskInstance.dag_id == task.dag_id))
        session.execute(delete(DagModel).where(DagModel.dag_id == task.dag_id))
        session.execute(delete(Variable).where(Variable.key == variable_key(task)))


def store_execution(
    name: str,
    run: dict[str, Any],
    *,
    dag_id: str = "churn_daily",
    key: str = "run",
    **task: Any,
) -> None:
    """
    Store a task instance that has ended, and its XCom ``run``.

    :param name: the id of its DAG run.
    :param dag_id: the DAG, which does not exist.
    :param key: the key of the XCom.
    :param task: other columns of the task instance.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import insert, text

    ids = {"dag_id": dag_id, "run_id": name, "task_id": "train"}
    row: dict[str, Any] = {
        "operator": "PolysyncStartPipelineOperator",
        "state": "success",
    }
    row |= {"pool": "default_pool", "try_number": 1, "pool_slots": 1}
    # The number of a DAG run, which does not exist.
    xcom = {"dag_run_id": abs(hash(name)) % 2**31, "key": key, "value": json.dumps(run)}
    with create_session() as session:
        session.execute(text("PRAGMA foreign_keys = OFF"))
        session.execute(insert(TaskInstance.__table__).values({**ids, **row, **task}))
        session.execute(insert(XComModel.__table__).values({**ids, **xcom}))


def remove_executions() -> None:
    """Delete all task instances and XComs."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(XComModel))
        session.execute(delete(TaskInstance))


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
