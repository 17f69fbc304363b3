"""
The operators: start an execution of a pipeline, stop an execution, answer a callback
step, import pipelines as jobs, and create or update a pipeline.

``start``, ``stop``, ``callback``, ``list_import``, ``put_pipeline`` and ``step_tasks``
declare them, and
``base`` has what they and the sensors declare in common. A module with ``_run`` in its
name runs what the module of that name declares; ``task_run`` has the base of the runs,
and their wait. ``try_runner`` is one try of a Start task, ``reporting`` has what is
reported at the end, and ``results`` what the steps have made. ``failure_callback`` is
for tasks whose process has died, and ``parameter_check`` says what is wrong with a
start.
"""

from polysync_airflow.operators.callback import (
    PolysyncCallbackStepOperator,
    callback_step,
)
from polysync_airflow.operators.jobs import PolysyncRunJobOperator
from polysync_airflow.operators.list_import import PolysyncListImportOperator
from polysync_airflow.operators.put_pipeline import PolysyncPutPipelineOperator
from polysync_airflow.operators.start import PolysyncStartPipelineOperator
from polysync_airflow.operators.stop import PolysyncStopPipelineOperator

__all__ = [
    "PolysyncCallbackStepOperator",
    "PolysyncListImportOperator",
    "PolysyncPutPipelineOperator",
    "PolysyncRunJobOperator",
    "PolysyncStartPipelineOperator",
    "PolysyncStopPipelineOperator",
    "callback_step",
]
