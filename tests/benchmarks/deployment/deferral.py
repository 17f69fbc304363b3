"""
Owns the deferral of task instances, as a worker's would leave them in Airflow's database.

Reads ``[[class path, arguments], ...]`` as a line of JSON, and defers as many task instances of the DAG's newest
runs. A thousand workers would take longer to start than the waits last.
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
    Defer.

    :param dag_id: whose task instances.
    """
    wanted = json.loads(sys.stdin.readline())
    with create_session() as session:
        free = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.state.is_(None))
        found = session.scalars(free.limit(len(wanted))).all()
        for instance, (class_path, arguments) in zip(found, wanted, strict=True):
            trigger = Trigger(classpath=class_path, kwargs=arguments)
            session.add(trigger)
            session.flush()
            instance.trigger_id, instance.state = trigger.id, TaskInstanceState.DEFERRED
            instance.next_method, instance.next_kwargs = "execute_complete", {}
            instance.try_number, instance.start_date = 1, timezone.utcnow()


if __name__ == "__main__":
    main(*sys.argv[1:])
