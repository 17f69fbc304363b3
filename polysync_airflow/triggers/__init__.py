"""
The deferrable wait: the trigger, and the poller that all triggers of a process share.

One poller serves one connection and region. It has one client, a schedule in a thread of its own, and a few
threads that call AWS. A trigger subscribes to it and waits for messages in its event loop.
"""

from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger

__all__ = ["PolysyncPipelineExecutionTrigger"]
