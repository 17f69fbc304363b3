"""
The deferrable waits: the triggers, and the pollers that all waits of an event loop
share.

One poller (``poller``) serves one kind of wait, connection and region. It has one
client, a pure schedule (``schedule``), an asyncio task, and a few threads that call
AWS. What it does is counted and logged (``activity``). A trigger (``waits``) subscribes
to it and waits for the steps that concern its task. It shows the steps of a deferred
task, and ends the executions of tasks that were ended. Code of a task that ends in the
triggerer (``task_end``) runs in threads (``threads``), as all that blocks. The tasks of
a group, one for each step, share the polls of their execution (``step_tasks``).
"""

from polysync_airflow.triggers.step_tasks import PolysyncStepTaskTrigger
from polysync_airflow.triggers.wait_triggers import (
    PolysyncCallbackStepTrigger,
    PolysyncModelApprovalTrigger,
    PolysyncPipelineExecutionTrigger,
    PolysyncPipelineSearchTrigger,
    PolysyncPipelineStepTrigger,
)

__all__ = [
    "PolysyncCallbackStepTrigger",
    "PolysyncModelApprovalTrigger",
    "PolysyncPipelineExecutionTrigger",
    "PolysyncPipelineSearchTrigger",
    "PolysyncPipelineStepTrigger",
    "PolysyncStepTaskTrigger",
]
