"""The run of a PutPipeline task."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.aws.retry import PUT_TIMEOUT_SECONDS, Result, call_with_retry
from polysync_airflow.exceptions import RESOURCE_NOT_FOUND, SageMakerApiError, has_code
from polysync_airflow.execution import clock, definitions
from polysync_airflow.execution.pipelines import PipelineDescription, definition_digest
from polysync_airflow.hooks import PolysyncSageMakerHook

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.operators.put_pipeline import PolysyncPutPipelineOperator

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
        draft = self._draft()
        pipeline = self._describe(draft.pipeline_name)
        digest = definition_digest(draft.definition)
        if pipeline and digest == definition_digest(pipeline.definition):
            # Only white space or the order of keys differs. AWS may take another text
            # for another version.
            draft = draft.model_copy(update={"definition": pipeline.definition})
        put = self._retry(partial(self.hook.put_pipeline, draft))
        text = f"{put.arn}, version {put.version_id}"
        lines = definitions.changes(pipeline, draft) if pipeline else []
        if put.was_created:
            self.log.info("Created %s.", text)
        elif pipeline and not lines:
            self.log.info("Unchanged: %s.", text)
        else:
            self.log.info("Updated %s:\n%s", text, "\n".join(lines))
        self.ti.xcom_push(VERSION_KEY, put.version_id)
        return put.arn

    def _draft(self) -> definitions.PipelineDraft:
        task = self.task
        dag = task.get_dag()
        folder = Path(dag.fileloc).parent if dag else Path()
        return definitions.PipelineDraft.of(
            pipeline_name=task.pipeline_name,
            definition=definitions.definition_text(task.definition, folder),
            role_arn=task.role_arn or self.hook.execution_role_arn,
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
            conflict_seconds=PUT_TIMEOUT_SECONDS,
        )
