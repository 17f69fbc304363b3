"""
Defers task instances directly in Airflow's database, in the state in which a worker
leaves them.

The program reads ``[[class path, arguments], ...]`` as a line of JSON, and defers one
task instance of the DAG for each trigger. A third member is the id of the job of the
triggerer that runs the trigger. It does not use workers: a thousand of them would take
longer to start than the executions last.
"""

from __future__ import annotations

import json
import sys

from airflow._shared.timezones import timezone
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select


def main(dag_id: str) -> None:
    """
    Defer task instances that have no state yet.

    :param dag_id: the DAG of the task instances.
    """
    triggers = json.loads(sys.stdin.readline())
    with create_session() as session:
        query = select(TaskInstance).where(
            TaskInstance.dag_id == dag_id, TaskInstance.state.is_(None)
        )
        instances = session.scalars(query.limit(len(triggers))).all()
        for instance, stored in zip(instances, triggers, strict=True):
            class_path, arguments, *job = stored
            trigger = Trigger(classpath=class_path, kwargs=arguments)
            trigger.triggerer_id = next(iter(job), None)
            session.add(trigger)
            session.flush()
            instance.trigger_id, instance.state = trigger.id, TaskInstanceState.DEFERRED
            instance.next_method, instance.next_kwargs = "execute_complete", {}
            instance.try_number, instance.start_date = 1, timezone.utcnow()


if __name__ == "__main__":
    main(*sys.argv[1:])
