"""The run of a PutPipeline task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import RESOURCE_NOT_FOUND, SageMakerApiError, has_code
from polysync_airflow.execution import clock
from polysync_airflow.execution.definitions import (
    PipelineDraft,
    PutArguments,
    as_it_is,
    changes,
    definition_text,
)
from polysync_airflow.execution.pipelines import PipelineDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.put_pipeline import PutPipeline

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.operators.put_pipeline import PolysyncPutPipelineOperator

# For how long calls that fail with transient errors are repeated.
PUT_TIMEOUT_SECONDS: Final = 600.0
# The XCom for the start of this version.
VERSION_KEY: Final = "pipeline_version_id"


class PutPipelineRun:
    """
    The one session of a PutPipeline task, which waits for nothing.

    :param task: the operator, whose templates are rendered.
    """

    def __init__(self, task: PolysyncPutPipelineOperator, context: Context) -> None:
        self.task = task
        self.ti: Any = context["ti"]
        self.log = task.log
        self.hook = PolysyncSageMakerHook(task.polysync_conn_id, task.region_name)
        self._until = clock.time() + PUT_TIMEOUT_SECONDS

    def execute(self) -> str:
        """Create or update the pipeline, and return its ARN."""
        arguments = self._arguments()
        dag = self.task.get_dag()
        folder = Path(dag.fileloc).parent if dag else Path()
        draft = arguments.draft(definition_text(self.task.definition, folder))

        name = arguments.pipeline_name
        pipeline = self._describe(name)
        if pipeline:
            draft = as_it_is(draft, pipeline)
        put = self._retry(partial(self.hook.put_pipeline, name, draft))
        self._report(pipeline, draft, put)
        self.ti.xcom_push(VERSION_KEY, put.version_id)
        return put.arn

    def _arguments(self) -> PutArguments:
        task = self.task
        role_arn = task.role_arn
        if role_arn is None and self.hook.credentials:
            role_arn = self.hook.credentials.execution_role_arn
        return PutArguments.of(
            pipeline_name=task.pipeline_name,
            role_arn=role_arn,
            pipeline_description=task.pipeline_description,
            max_parallel_steps=task.max_parallel_steps,
            pipeline_tags=task.pipeline_tags or {},
        )

    def _describe(self, pipeline_name: str) -> PipelineDescription | None:
        """Describe the pipeline as it is before; None if it does not exist."""
        try:
            return self._retry(partial(self.hook.describe_pipeline, pipeline_name))
        except SageMakerApiError as error:
            if not has_code(error, RESOURCE_NOT_FOUND):
                raise
            return None

    def _retry(self, call: Callable[[], Result]) -> Result:
        return call_with_retry(
            call,
            until=self._until,
            warn=self.log.warning,
            # Many tasks may update one pipeline, one after the other.
            conflict_seconds=PUT_TIMEOUT_SECONDS,
        )

    def _report(
        self,
        pipeline: PipelineDescription | None,
        draft: PipelineDraft,
        put: PutPipeline,
    ) -> None:
        name = f"{put.arn}, version {put.version_id}"
        if put.was_created:
            self.log.info("Created %s.", name)
            return
        # Another process may have created it meanwhile.
        lines = changes(pipeline, draft) if pipeline else ["it was not there before"]
        if lines:
            listed = "\n".join(f"- {line}" for line in lines)
            self.log.info("Updated %s:\n%s", name, listed)
        else:
            self.log.info("Unchanged: %s.", name)
