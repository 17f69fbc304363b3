"""The three tasks of a DAG: start a pipeline's execution, stop one, import pipelines."""

from polysync_airflow.operators.list_import import PolysyncListImportOperator
from polysync_airflow.operators.start import PolysyncStartPipelineOperator
from polysync_airflow.operators.stop import PolysyncStopPipelineOperator

__all__ = ["PolysyncListImportOperator", "PolysyncStartPipelineOperator", "PolysyncStopPipelineOperator"]
