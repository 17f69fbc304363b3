"""The sensors. They wait for what others do, and start and stop nothing in AWS."""

from polysync_airflow.sensors.model_approval import PolysyncModelApprovalSensor

__all__ = ["PolysyncModelApprovalSensor"]
