"""
The sensors. They wait for what others do, and start and stop nothing in AWS.

For an execution or a step (``pipeline``), and for the approval of a model
(``model_approval``). ``base`` says how they wait in each mode, and after which errors
they are skipped.
"""

from polysync_airflow.sensors.model_approval import PolysyncModelApprovalSensor
from polysync_airflow.sensors.pipeline import PolysyncPipelineSensor

__all__ = ["PolysyncModelApprovalSensor", "PolysyncPipelineSensor"]
