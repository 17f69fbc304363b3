"""
The operator that imports pipelines as jobs. The import itself is in
``jobs/importer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from polysync_airflow.execution.models import ManagedBy
from polysync_airflow.execution.parameters import Options
from polysync_airflow.operators import base

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from polysync_airflow.operators.list_import_run import ListImportRun

OnDrift = Literal["fail", "warn"]


class ImportOptions(Options):
    """The options of an import."""

    on_drift: OnDrift
    managed_by: ManagedBy


class PolysyncListImportOperator(base.PolysyncOperator):
    """
    Import SageMaker pipelines as Polysync jobs: the pipelines' properties and their
    declared parameters.

    Each job is a dict: name, arn, region, role_arn, display_name, description,
    created_at, modified_at, last_run_at (ISO 8601 UTC), max_parallel_steps,
    definition_digest (``sha256:<hex>``), parameters (name, type, default, enum_values,
    description), parameters_error. A warning names the steps of a type that AWS does
    not have, as far as this version knows. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html and
    API_DescribePipeline.html

    :param pipeline_name_prefix: import only pipelines whose names begin with this
        prefix (templated). Default: all pipelines of the region.
    :param pipeline_names: import only these pipelines, by name or ARN; each must exist
        (templated).
    :param managed_by: ``CUSTOMER`` for the pipelines of the account, ``AWS`` for those
        that AWS manages, which needs boto3 1.43.127.
    :param compare_with: path of a catalogue file, which ``polysync jobs import`` has
        written. The task compares the imported jobs with it, and logs each difference
        (templated).
    :param on_drift: what the task does if they differ: ``fail``, without using its
        retries, or ``warn``, and return the jobs.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the jobs, sorted by name (XCom ``return_value``). A pipeline that may not
        be described, or is not valid, is left out with a warning; the XCom
        ``not_imported`` has their number.
    :raises ParametersError: the arguments contradict each other, or a name does not
        exist.
    :raises CatalogueError: the catalogue file cannot be read. AWS was not called.
    :raises CatalogueDriftError: the jobs differ from the catalogue.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call that concerns all pipelines, or all
        pipelines, or one of ``pipeline_names``.
    """

    template_fields: Sequence[str] = (
        "pipeline_name_prefix",
        "pipeline_names",
        "compare_with",
        "polysync_conn_id",
        "region_name",
    )
    ui_color = "#eaf7ea"

    def __init__(
        self,
        *,
        pipeline_name_prefix: str | None = None,
        pipeline_names: Sequence[str] | XComArg | None = None,
        managed_by: ManagedBy = "CUSTOMER",
        compare_with: str | Path | None = None,
        on_drift: OnDrift = "fail",
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ImportOptions.of({"on_drift": on_drift, "managed_by": managed_by})
        self.pipeline_name_prefix = pipeline_name_prefix
        # Airflow replaces an XComArg by the rendered list before it calls execute.
        self.pipeline_names = cast("Sequence[str] | None", pipeline_names)
        if isinstance(compare_with, Path):
            # Airflow renders texts only.
            compare_with = str(compare_with)
        self.compare_with = compare_with
        self.on_drift = on_drift
        self.managed_by = managed_by
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name

    def _run_in(self, context: Context) -> ListImportRun:
        from polysync_airflow.operators.list_import_run import ListImportRun

        return ListImportRun(self, context)

    @base.apply_retry_policy
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List and describe the pipelines, and return the jobs."""
        return self._run_in(context).execute()
