"""The operator that imports pipelines as jobs. The import itself is in ``jobs/importer.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from polysync_airflow.operators.base import DEFAULT_CONNECTION, PolysyncOperator, apply_retry_policy

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg


class PolysyncListImportOperator(PolysyncOperator):
    """
    Import SageMaker pipelines as Polysync jobs: the pipelines' properties and their declared parameters.

    Each job is a dict: name, arn, role_arn, display_name, description, created_at, modified_at, last_run_at
    (ISO 8601 UTC), max_parallel_steps, parameters (name, type, default, enum_values), parameters_error.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html and
    API_DescribePipeline.html

    :param pipeline_name_prefix: import only pipelines whose names begin with this prefix (templated).
        Default: all pipelines of the region.
    :param pipeline_names: import only these pipelines; each must exist (templated).
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the jobs, sorted by name (XCom ``return_value``).
    :raises ParametersError: the arguments contradict each other, or a name does not exist.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
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
        self.pipeline_name_prefix = pipeline_name_prefix
        # Airflow replaces an XComArg by the rendered list before it calls execute.
        self.pipeline_names = cast("Sequence[str] | None", pipeline_names)
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name

    @apply_retry_policy
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List and describe the pipelines, and return the jobs."""
        from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
        from polysync_airflow.hooks import PolysyncSageMakerHook
        from polysync_airflow.jobs.importer import describe_import, import_jobs

        hook = PolysyncSageMakerHook(self.polysync_conn_id, self.region_name, config=RATE_LIMITED_CONFIG)
        jobs = import_jobs(hook, name_prefix=self.pipeline_name_prefix, names=self.pipeline_names)
        for line in describe_import(jobs):
            self.log.info("%s", line)
        return [job.model_dump(mode="json") for job in jobs]
