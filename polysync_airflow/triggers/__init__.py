"""
The deferrable waits: the triggers, and the poller that all waits for executions in an event loop share.

One poller serves one connection and region. It has one client, a schedule that is an asyncio task, and a few
threads that call AWS. The trigger of an execution subscribes to it and waits for the steps that concern its
task.
"""

from polysync_airflow.triggers.model_approval import PolysyncModelApprovalTrigger
from polysync_airflow.triggers.pipeline_execution import PolysyncPipelineExecutionTrigger
from polysync_airflow.triggers.sensing.execution_search import PolysyncPipelineSearchTrigger
from polysync_airflow.triggers.steps import PolysyncCallbackStepTrigger, PolysyncPipelineStepTrigger

__all__ = [
    "PolysyncCallbackStepTrigger",
    "PolysyncModelApprovalTrigger",
    "PolysyncPipelineExecutionTrigger",
    "PolysyncPipelineSearchTrigger",
    "PolysyncPipelineStepTrigger",
]
