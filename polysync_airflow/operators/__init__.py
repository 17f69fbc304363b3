"""
The operators: start an execution of a pipeline, stop an execution, answer a callback
step, and import pipelines as jobs.

``base`` has the wait that they and the sensors share, ``reporting`` what is reported,
``results`` what the steps have made. ``try_runner`` is one try of a Start task,
``failure_callback`` is for tasks whose process has died, and ``parameter_check`` says
what is wrong with a start.
"""

from polysync_airflow.operators.callback import (
    PolysyncCallbackStepOperator,
    callback_step,
)
from polysync_airflow.operators.list_import import PolysyncListImportOperator
from polysync_airflow.operators.start import PolysyncStartPipelineOperator
from polysync_airflow.operators.stop import PolysyncStopPipelineOperator

__all__ = [
    "PolysyncCallbackStepOperator",
    "PolysyncListImportOperator",
    "PolysyncStartPipelineOperator",
    "PolysyncStopPipelineOperator",
    "callback_step",
]
