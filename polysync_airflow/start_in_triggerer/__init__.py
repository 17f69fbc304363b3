"""
Whole tasks in the triggerer, from their start to their end, without a worker: from
Airflow 3.3 on.

The triggers here run the code of operators and sensors, and are above them. Only
Airflow makes them, by the class path that a task names in its ``start_trigger_args``: a
sensor (``triggerer_task``), or the task of a step (``step_tasks``).
"""

from polysync_airflow.start_in_triggerer.step_tasks import PolysyncStepTaskEndTrigger
from polysync_airflow.start_in_triggerer.triggerer_task import PolysyncTaskTrigger

__all__ = ["PolysyncStepTaskEndTrigger", "PolysyncTaskTrigger"]
