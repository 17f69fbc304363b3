"""What the sensors have in common: how they wait on a worker, and after which errors they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polysync_airflow.airflow_compat.sdk import (
    AirflowRescheduleException,
    AirflowSkipException,
    BaseOperator,
)
from polysync_airflow.airflow_compat.sensors import BaseSensorOperator
from polysync_airflow.exceptions import PipelineExecutionError

if TYPE_CHECKING:
    from airflow.sdk import Context


class PolysyncSensor(BaseSensorOperator):
    """Base of the sensors."""

    ui_color = "#e6f1f2"

    @contextmanager
    def soft_failures(self) -> Iterator[None]:
        """
        Skip the task if an error in a block is one for which ``soft_fail`` or ``never_fail`` say so.

        Airflow's own rules differ between a worker and the triggerer: after a deferral, ``soft_fail`` would
        hide a broken connection. These are the same in all modes.
        """
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except Exception as error:
            if self.never_fail or (self.soft_fail and isinstance(error, PipelineExecutionError)):
                raise AirflowSkipException(str(error)) from error
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after a deferral. Each method that is called has its own ``soft_failures``."""
        return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
