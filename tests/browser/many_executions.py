"""
Fills the database of a site with the executions of many DAG runs, which the REST API
would create one by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

from tests.browser import arranged
from tests.browser.airflow_site import Site

TASK: Final = "train"
# One of so many tasks has failed.
FAILED: Final = 20
SPACING: Final = timedelta(minutes=1)
DURATION: Final = timedelta(seconds=1823)

Row = dict[str, Any]


def dag_ids(number: int) -> list[str]:
    """Return the ids of the first DAGs of ``dags/retraining.py``."""
    return [f"retraining_{index:02}" for index in range(number)]


def add_executions(site: Site, dags: int, number: int, running: int = 0) -> None:
    """
    Add DAG runs of some DAGs in turn, one a minute until now, each with the task
    instance and XComs of an execution.

    :param site: the Airflow.
    :param dags: the number of DAGs.
    :param number: the number of task instances.
    :param running: how many of them are deferred: the newest.
    """
    import sqlalchemy

    names = dag_ids(dags)
    engine, metadata = sqlalchemy.create_engine(site.database), sqlalchemy.MetaData()
    metadata.reflect(engine, only=["dag_run", "task_instance", "xcom", "dag_version"])
    run, task, xcom, version = (
        metadata.tables[name]
        for name in ("dag_run", "task_instance", "xcom", "dag_version")
    )
    key = {"dag_id": names[0], "run_id": site.trigger(names[0])}
    with engine.begin() as database:
        old_run, old_task = (
            dict(
                database.execute(sqlalchemy.select(table).filter_by(**key))
                .mappings()
                .one()
            )
            for table in (run, task)
        )
        versions = dict(
            database.execute(sqlalchemy.select(version.c.dag_id, version.c.id)).all()
        )
        ids = count(
            database.scalar(sqlalchemy.select(sqlalchemy.func.max(run.c.id))) + 1
        )
        database.execute(sqlalchemy.delete(run).filter_by(**key))
        rows: dict[Any, list[Row]] = {run: [], task: [], xcom: []}
        for index in range(number):
            age, name = number - index - 1, names[index % dags]
            began = datetime.now(UTC) - age * SPACING
            place = {"dag_id": name, "run_id": f"scheduled__{began.isoformat()}"}
            state = (
                "deferred"
                if age < running
                else "failed"
                if age % FAILED == 0
                else "success"
            )
            ends = None if state == "deferred" else began + DURATION
            new_run = {
                **old_run,
                **place,
                "id": next(ids),
                "run_type": "scheduled",
                "run_after": began,
            }
            rows[run].append(
                {
                    **new_run,
                    "triggering_user_name": None,
                    "created_dag_version_id": versions[name],
                }
            )
            new_id = (
                uuid.uuid4()
                if isinstance(old_task["id"], uuid.UUID)
                else uuid.uuid4().hex
            )
            new_task = {
                **old_task,
                **place,
                "id": new_id,
                "dag_version_id": versions[name],
                "state": state,
            }
            rows[task].append(
                {**new_task, "start_date": began, "end_date": ends, "try_number": 1}
            )
            values = {
                **place,
                "dag_run_id": new_run["id"],
                "task_id": TASK,
                "timestamp": began,
            }
            rows[xcom] += [
                {**values, **each}
                for each in _xcoms(state, f"pipeline-{index % dags:02}", began)
            ]
        for table, inserted in rows.items():
            database.execute(table.insert(), inserted)
    engine.dispose()


def _xcoms(state: str, pipeline: str, began: datetime) -> Iterator[Row]:
    if state == "deferred":
        xcoms = arranged.running()
    else:
        xcoms = (
            arranged.failure()
            if state == "failed"
            else arranged.measured(0.9, start=began)
        )
    yield {"key": "run", "value": {**xcoms.run, "pipeline_name": pipeline}}
    yield {"key": "steps", "value": xcoms.steps}
