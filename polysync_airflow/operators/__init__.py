"""
The operators: start an execution of a pipeline, stop an execution, answer a callback step, and import
pipelines as jobs.
"""

from polysync_airflow.operators.callback.operator import PolysyncCallbackStepOperator, callback_step
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
