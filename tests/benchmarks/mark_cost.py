"""
Measures what the listener costs the API server and the scheduler, with PostgreSQL.

::

    python -m tests.benchmarks.mark_cost --tasks 1000 --variables 10000

A DAG run with many tasks is marked, of which none or one has a record. Each figure is
the time inside the listener, the CPU time of it, which other programs of the machine
change less, and how many statements it sends.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.deployment.postgres import private_postgres

REPETITIONS: Final = 20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000, help="default: 1000")
    parser.add_argument("--variables", type=int, default=10000, help="default: 10000")
    parser.add_argument(
        "--triggers",
        type=int,
        default=0,
        help="that run, in a deployment with [triggerer] queues_enabled; default: 0,"
        " and no queues",
    )
    options = parser.parse_args()
    if options.triggers:
        os.environ["AIRFLOW__TRIGGERER__QUEUES_ENABLED"] = "True"
    with private_postgres() as server:
        os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = server.url
        migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(migrate, check=True, capture_output=True)
        _measure(options.tasks, options.variables, options.triggers)


def _measure(tasks: int, variables: int, triggers: int) -> None:
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    from polysync_airflow.watch.listeners import EndListener
    from tests.unit.watch import rows
    from tests.unit.watch.test_listeners import DAG_ID, RUN_ID, add_task

    with create_session() as session:
        rows.add_run(session, DAG_ID, RUN_ID)
        for number in range(tasks):
            add_task(session, "skipped", f"task_{number}", has_record=False)
        for number in range(variables):
            session.add(Variable(key=f"other_{number}", val="{}"))  # type: ignore[no-untyped-call]
        session.commit()
        if triggers:
            triggerer = rows.add_triggerer(session)
            for _ in range(triggers):
                rows.add_trigger(session, triggerer, queue="default")
            session.commit()
        listener = EndListener()
        print(f"{tasks} tasks, {variables} other Variables")
        print(f"{'what is marked':24}{'median':>10}{'CPU':>10}  statements")
        _row(session, "DAG run, no record", _mark_run(listener))
        _row(session, "its tasks, no record", _mark_tasks(listener))
        add_task(session, "skipped", "ours")
        _row(session, "DAG run, one record", _mark_run(listener))
        _row(session, "its tasks, one record", _mark_tasks(listener))


def _mark_run(listener: Any) -> Callable[[Any], Callable[[], None]]:
    def prepare(session: Any) -> Callable[[], None]:
        from tests.unit.watch.test_listeners import dag_run

        run = dag_run(session)
        return lambda: listener.on_dag_run_failed(run, "marked")

    return prepare


def _mark_tasks(listener: Any) -> Callable[[Any], Callable[[], None]]:
    def prepare(session: Any) -> Callable[[], None]:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        found = session.scalars(select(TaskInstance)).all()

        def mark() -> None:
            for ti in found:
                listener.on_task_instance_skipped(None, ti)

        return mark

    return prepare


def _row(
    session: Any, title: str, prepare: Callable[[Any], Callable[[], None]]
) -> None:
    from sqlalchemy import event

    times = []
    cpu = []
    counts: list[str] = []

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        counts.append(statement)

    engine = session.connection().engine
    for _ in range(REPETITIONS):
        mark = prepare(session)
        counts.clear()
        event.listen(engine, "before_cursor_execute", count)
        start = time.perf_counter()
        start_cpu = time.process_time()
        mark()
        cpu.append(1000 * (time.process_time() - start_cpu))
        times.append(1000 * (time.perf_counter() - start))
        event.remove(engine, "before_cursor_execute", count)
        session.rollback()
    columns = "".join(f"{statistics.median(each):7.1f} ms" for each in (times, cpu))
    print(f"{title:24}{columns}  {len(counts)}", flush=True)


if __name__ == "__main__":
    main()
