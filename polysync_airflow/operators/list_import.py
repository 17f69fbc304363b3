"""
The operator that imports pipelines as jobs. The import itself is in
``jobs/importer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from polysync_airflow.exceptions import CatalogueDriftError, ParametersError
from polysync_airflow.execution.models import ManagedBy, pipeline_name_of
from polysync_airflow.execution.parameters import Options
from polysync_airflow.execution.texts import first_problems
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    PolysyncOperator,
    apply_retry_policy,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from polysync_airflow.execution.pipelines import Job
    from polysync_airflow.jobs.catalogue import Catalogue

OnDrift = Literal["fail", "warn"]


class ImportOptions(Options):
    """The options of an import."""

    on_drift: OnDrift
    managed_by: ManagedBy


class PolysyncListImportOperator(PolysyncOperator):
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
    :return: the jobs, sorted by name (XCom ``return_value``).
    :raises ParametersError: the arguments contradict each other, or a name does not
        exist.
    :raises CatalogueError: the catalogue file cannot be read. AWS was not called.
    :raises CatalogueDriftError: the jobs differ from the catalogue.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
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
        polysync_conn_id: str = DEFAULT_CONNECTION,
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

    @apply_retry_policy
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """List and describe the pipelines, and return the jobs."""
        from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
        from polysync_airflow.hooks import PolysyncSageMakerHook
        from polysync_airflow.jobs.catalogue import read_catalogue
        from polysync_airflow.jobs.importer import describe_import, import_jobs

        catalogue = None
        if self.compare_with is not None:
            if not isinstance(self.compare_with, str) or not self.compare_with.strip():
                raise ParametersError(
                    f"compare_with = {self.compare_with!r:.100} is not valid: give the"
                    " path of a catalogue file."
                )
            catalogue = read_catalogue(self.compare_with)
        hook = PolysyncSageMakerHook(
            self.polysync_conn_id, self.region_name, config=RATE_LIMITED_CONFIG
        )
        jobs = import_jobs(
            hook,
            name_prefix=self.pipeline_name_prefix,
            names=self.pipeline_names,
            managed_by=self.managed_by,
        )
        for line in describe_import(jobs):
            self.log.info("%s", line)
        if catalogue is not None:
            self._compare(catalogue, jobs)
        return [job.model_dump(mode="json") for job in jobs]

    def _compare(self, catalogue: Catalogue, jobs: Sequence[Job]) -> None:
        from polysync_airflow.jobs.catalogue import Scope
        from polysync_airflow.jobs.drift import compare, describe_drift

        names = None
        if self.pipeline_names is not None:
            names = frozenset(map(pipeline_name_of, self.pipeline_names))
        scope = Scope(self.pipeline_name_prefix or "", names)
        lines = []
        for drift in compare(catalogue, jobs, scope):
            line = describe_drift(drift)
            if drift.is_note:
                self.log.info("%s", line)
            else:
                self.log.warning("%s", line)
                lines.append(line)
        if not lines:
            self.log.info("The pipelines are as in %s.", self.compare_with)
        elif self.on_drift == "fail":
            # The log has all of them.
            listed = "\n".join(f"- {line}" for line in first_problems(lines))
            raise CatalogueDriftError(
                f"The pipelines differ from {self.compare_with} in {len(lines):,}"
                " points. Review them, and write the file again with: polysync jobs"
                f" import <file>\n{listed}"
            )
