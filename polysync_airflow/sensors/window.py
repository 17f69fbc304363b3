"""The window of a search that its DAG author has not given: the data interval of the DAG run."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from polysync_airflow.execution import clock

if TYPE_CHECKING:
    from airflow.sdk import Context


def default_window(context: Context) -> tuple[datetime, datetime | None]:
    """
    Return begin and end of the data interval of a DAG run. An interval without length has no end.

    Airflow 3 has intervals without length for cron timetables and for manual runs, and DAG runs without
    any, for example those that an asset starts. For these, the window begins when the DAG run was due.
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/timetable.html
    """
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is not None:
        return start, end if end and end > start else None
    dag_run = context.get("dag_run")
    # Airflow 2 has no ``run_after``, but always an interval.
    begin = getattr(dag_run, "run_after", None) or getattr(dag_run, "start_date", None)
    return begin or clock.now(), None
