"""
The deferrable waits: the triggers, and the pollers that all waits of an event loop
share.

One poller (``poller``) serves one kind of wait, connection and region. It has one
client, a pure schedule (``schedule``), an asyncio task, and a few threads that call
AWS. What it does is counted for the metrics (``activity``).

A trigger (``wait_triggers``) subscribes to a poller and receives what concerns its
task. It pushes the steps of a deferred task (``step_pusher``), and stops the executions
of tasks that were ended (``stopping``). The triggers that wait for something else than
an execution stand beside their poller: ``searches``, and ``step_tasks``, whose tasks
share the polls of their execution.

Code of a task that ends in the triggerer (``task_end``) runs in threads (``threads``),
as all that blocks.
"""

from polysync_airflow.triggers.searches import (
    PolysyncModelApprovalTrigger,
    PolysyncPipelineSearchTrigger,
)
from polysync_airflow.triggers.step_tasks import PolysyncStepTaskTrigger
from polysync_airflow.triggers.wait_triggers import (
    PolysyncCallbackStepTrigger,
    PolysyncPipelineExecutionTrigger,
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
