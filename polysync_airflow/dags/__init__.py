"""DAGs and task groups that are made from a catalogue of imported jobs."""

from polysync_airflow.dags.factory import polysync_dags, polysync_task_group

__all__ = ["polysync_dags", "polysync_task_group"]
