"""
The deferrable waits: the triggers, and the pollers that all waits of an event loop share.

One poller (``poller``) serves one kind of wait, connection and region. It has one client (``shared_client``),
a pure schedule (``schedule``), an asyncio task, and a few threads that call AWS. A trigger subscribes to it
and waits for the steps that concern its task: those of executions and their steps (``pipeline_execution``),
and those of what others do (``sensing``). ``stopping`` shows the steps of a deferred task, and ends the
executions of tasks that were ended.
"""

from polysync_airflow.triggers.pipeline_execution import (
    PolysyncCallbackStepTrigger,
    PolysyncPipelineExecutionTrigger,
    PolysyncPipelineStepTrigger,
)
from polysync_airflow.triggers.sensing import PolysyncModelApprovalTrigger, PolysyncPipelineSearchTrigger

__all__ = [
    "PolysyncCallbackStepTrigger",
    "PolysyncModelApprovalTrigger",
    "PolysyncPipelineExecutionTrigger",
    "PolysyncPipelineSearchTrigger",
    "PolysyncPipelineStepTrigger",
]
