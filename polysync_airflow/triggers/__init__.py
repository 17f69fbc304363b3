"""
The deferrable wait: the trigger, and the poller that all triggers of an event loop share.

One poller serves one connection and region. It has one client, a schedule that is an asyncio task, and a few
threads that call AWS. A trigger subscribes to it and waits for the steps that concern its task.
"""

from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger

__all__ = ["PolysyncPipelineExecutionTrigger"]
