"""The DAG of a job whose form the tests fill in."""

from __future__ import annotations

from polysync_airflow.dags import polysync_dags

polysync_dags("jobs.yaml")
