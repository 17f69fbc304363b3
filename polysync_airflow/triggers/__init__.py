"""The deferrable wait: the trigger, and the poller that all triggers of a process share."""

from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger

__all__ = ["PolysyncPipelineExecutionTrigger"]
