"""The run of a task that makes the pipeline of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polysync_airflow.execution.job_pipelines import JobPipeline
from polysync_airflow.operators.start_run import StartRun

if TYPE_CHECKING:
    from polysync_airflow.operators.jobs import PolysyncRunJobOperator


class JobRun(StartRun):
    """One session of a task that runs a job."""

    task: PolysyncRunJobOperator

    def own_pipeline(self) -> JobPipeline:
        """Return the pipeline that the task makes before a new execution."""
        task = self.task
        return JobPipeline(
            job_type=task.job_type,
            config=task.config,
            template=task.config_template,
            name=task.pipeline_name,
            role_arn=task.role_arn,
            step=task.step or {},
            tags=task.pipeline_tags,
            parameters=task.pipeline_parameters,
        )
