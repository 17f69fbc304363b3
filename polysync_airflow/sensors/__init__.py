"""The sensors. They wait for what others do, and start and stop nothing in AWS."""

from polysync_airflow.sensors.model_approval import PolysyncModelApprovalSensor
from polysync_airflow.sensors.pipeline import PolysyncPipelineSensor

__all__ = ["PolysyncModelApprovalSensor", "PolysyncPipelineSensor"]
