"""Owns the task that imports pipelines as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseOperator

from polysync_airflow.operators.base import DEFAULT_CONNECTION
from polysync_airflow.retrying import PolysyncRetryPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class PolysyncListImportOperator(BaseOperator):
    """
    Import SageMaker pipelines as Polysync jobs: their facts and the parameters that they declare.

    Each job is a dict: name, arn, role_arn, display_name, description, created_at, modified_at, last_run_at
    (ISO 8601 UTC), max_parallel_steps, parameters (name, type, default, enum_values), parameters_error.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html and
    API_DescribePipeline.html

    :param pipeline_name_prefix: only pipelines whose names begin so (templated). Default: all of the region.
    :param pipeline_names: only these, each must exist (templated).
    :param polysync_conn_id: Airflow connection, type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; goes before the connection's (templated).
    :return: the jobs, sorted by name (XCom ``return_value``).
    :raises ParametersError: contradictory arguments, or a name that does not exist.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused.
    """

    template_fields: Sequence[str] = (
        "pipeline_name_prefix",
        "pipeline_names",
        "polysync_conn_id",
        "region_name",
    )
    ui_color = "#eaf7ea"

    def __init__(
        self,
        *,
        pipeline_name_prefix: str | None = None,
        pipeline_names: Sequence[str] | XComArg | None = None,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retry_policy = self.retry_policy or PolysyncRetryPolicy()
        self.pipeline_name_prefix = pipeline_name_prefix
        # Airflow puts the rendered list in place of an XComArg before execute.
        self.pipeline_names = cast("Sequence[str] | None", pipeline_names)
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List, describe, and return the jobs."""
        from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
        from polysync_airflow.hooks import PolysyncSageMakerHook
        from polysync_airflow.jobs.importer import import_jobs

        hook = PolysyncSageMakerHook(self.polysync_conn_id, self.region_name, config=RATE_LIMITED_CONFIG)
        jobs = import_jobs(hook, name_prefix=self.pipeline_name_prefix, names=self.pipeline_names)
        return [job.model_dump(mode="json") for job in jobs]
