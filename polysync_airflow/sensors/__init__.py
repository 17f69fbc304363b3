"""
The sensors. They wait for what others do, and start and stop nothing in AWS.

For an execution or a step (``pipeline``), and for the approval of a model
(``model_approval``). These modules declare the sensors, and ``base`` after which errors
they are skipped. ``pipeline_run`` and ``approval_run`` run them, and ``sensor_run``
says how they wait in each mode.
"""

from polysync_airflow.sensors.model_approval import PolysyncModelApprovalSensor
from polysync_airflow.sensors.pipeline import PolysyncPipelineSensor

__all__ = ["PolysyncModelApprovalSensor", "PolysyncPipelineSensor"]
