"""DAG runs, task instances and triggers in the database of this process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import TaskKey


def add_run(session: Any, dag_id: str, run_id: str) -> None:
    """Store a DAG run."""
    from airflow.models.dagrun import DagRun

    now = datetime(2026, 1, 1, tzinfo=UTC)
    values = {
        "dag_id": dag_id,
        "run_id": run_id,
        "state": "running",
        "run_type": "manual",
        "run_after": now,
        "queued_at": now,
        "start_date": now,
        "clear_number": 0,
        "log_template_id": 1,
    }
    session.execute(DagRun.__table__.insert().values(**values))


def add_task(session: Any, key: TaskKey, state: str | None, try_number: int) -> None:
    """Store a task instance of a DAG run that exists."""
    from airflow.models.taskinstance import TaskInstance
    from uuid6 import uuid7

    index = "map_index"
    if "region_index" in TaskInstance.__table__.columns:
        index = "region_index"
    values = {
        "id": uuid7(),
        "dag_id": key.dag_id,
        "run_id": key.run_id,
        "task_id": key.task_id,
        index: key.map_index,
        "state": state,
        "pool": "default_pool",
        "pool_slots": 1,
        "queue": "gpu",
        "max_tries": 2,
        "try_number": try_number,
    }
    session.execute(TaskInstance.__table__.insert().values(**values))


def add_triggerer(session: Any, *, seconds: float = 0, ended: bool = False) -> int:
    """Store a triggerer, and how many seconds ago it has sent its last heartbeat."""
    from airflow.jobs.job import Job

    job: Any = Job(job_type="TriggererJob")  # type: ignore[no-untyped-call]
    job.latest_heartbeat = clock.now() - timedelta(seconds=seconds)
    if ended:
        job.end_date = clock.now()
    session.add(job)
    session.commit()
    job_id: int = job.id
    return job_id


def add_trigger(
    session: Any, triggerer: int | None, *, seconds: float = 0, **columns: Any
) -> Any:
    """Store a trigger that a triggerer has, and how old it is."""
    from airflow.models.trigger import Trigger

    created_at = clock.now() - timedelta(seconds=seconds)
    trigger: Any = Trigger("path.Of", {}, created_date=created_at, **columns)
    trigger.triggerer_id = triggerer
    session.add(trigger)
    session.commit()
    return trigger


def remove_triggers(session: Any) -> None:
    """Delete all triggers, the calls of functions that have one, and all triggerers."""
    from airflow.jobs.job import Job
    from airflow.models.trigger import Trigger

    if CAPABILITIES.triggerer_callbacks:
        from airflow.models.callback import TriggererCallback

        session.query(TriggererCallback).delete()
    session.query(Trigger).delete()
    session.query(Job).delete()
    session.commit()


def add_begin(session: Any, key: TaskKey, event: str = "running") -> None:
    """Store in the audit log that a try of a task has begun, or another event."""
    from airflow.models.log import Log

    names: dict[str, Any] = {
        "dag_id": key.dag_id,
        "run_id": key.run_id,
        "task_id": key.task_id,
    }
    session.add(Log(event, **names))


def remove_dag(session: Any, dag_id: str) -> None:
    """Delete the DAG runs of a DAG, all that belongs to them, and its audit log."""
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.taskinstance import TaskInstance

    for model in (TaskInstance, DagRun, Log):
        session.query(model).filter_by(dag_id=dag_id).delete()
