"""Task instances, their records and XComs in the database of this process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
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
        values: dict[str, Any] = {"dag_id": task.dag_id, "bundle_name": "bundle"}
        session.merge(DagModel(**values, is_paused=False))  # type: ignore[no-untyped-call]
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


def pause(dag_id: str, *, is_paused: bool) -> None:
    """Pause a DAG, or let it go on."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    of_dag = update(DagModel).where(DagModel.dag_id == dag_id)
    with create_session() as session:
        session.execute(of_dag.values(is_paused=is_paused))


def store_execution(
    name: str,
    run: dict[str, Any],
    *,
    dag_id: str = "churn_daily",
    key: str = "run",
    also: Sequence[str] = (),
    **task: Any,
) -> None:
    """
    Store a task instance that has ended, and its XCom ``run``.

    :param name: the id of its DAG run.
    :param dag_id: the DAG, which does not exist.
    :param key: the key of the XCom.
    :param also: keys of other XComs of it, which say that they are pipelines.
    :param task: other columns of the task instance.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import insert, text

    ids = {"dag_id": dag_id, "run_id": name, "task_id": "train"}
    row: dict[str, Any] = {
        "operator": "PolysyncStartPipelineOperator",
        "state": "success",
    }
    row |= {"pool": "default_pool", "try_number": 1, "pool_slots": 1}
    row["id"] = uuid.uuid4()
    values = {key: run, **{each: {**run, "pipeline_name": each} for each in also}}
    xcom: dict[str, Any]
    with create_session() as session:
        session.execute(text("PRAGMA foreign_keys = OFF"))
        session.execute(insert(TaskInstance.__table__).values({**ids, **row, **task}))
        xcoms = _xcoms()
        if "task_instance_id" in xcoms.columns:
            # From Airflow 3.4 on, an XCom is found by its DAG run.
            xcom = {"task_instance_id": row["id"]}
            begin = datetime(2026, 1, 1, tzinfo=UTC)
            dag_run = {"run_type": "manual", "run_after": begin}
            dag_run |= {"dag_id": dag_id, "run_id": name}
            session.execute(insert(DagRun.__table__).values(dag_run))
        else:
            # The number of a DAG run, which does not exist.
            xcom = {**ids, "dag_run_id": abs(hash(name)) % 2**31}
        for each, value in values.items():
            row = {**xcom, "key": each, "value": json.dumps(value)}
            session.execute(insert(xcoms).values(row))


def _xcoms() -> Any:
    """Return the table of XComs."""
    from airflow.models import xcom

    model = getattr(xcom, "XComModelV2", None) or xcom.XComModel
    return model.__table__


def remove_executions() -> None:
    """Delete all task instances, XComs and DAG runs."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(_xcoms()))
        session.execute(delete(TaskInstance))
        session.execute(delete(DagRun))


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
