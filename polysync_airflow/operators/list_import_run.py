"""The run of a ListImport task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import CatalogueDriftError, ParametersError
from polysync_airflow.execution.models import pipeline_name_of
from polysync_airflow.execution.pipelines import Job
from polysync_airflow.execution.texts import first_problems
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import Catalogue, Scope, read_catalogue
from polysync_airflow.jobs.drift import compare, describe_drift
from polysync_airflow.jobs.importer import describe_import, import_jobs

if TYPE_CHECKING:
    from polysync_airflow.operators.list_import import PolysyncListImportOperator


class ListImportRun:
    """
    The one session of a ListImport task, which waits for nothing.

    :param task: the operator, whose templates are rendered.
    """

    def __init__(self, task: PolysyncListImportOperator) -> None:
        self.task = task
        self.log = task.log

    def execute(self) -> list[dict[str, Any]]:
        """List and describe the pipelines, and return the jobs."""
        catalogue = self._read_catalogue()
        task = self.task
        hook = PolysyncSageMakerHook(
            task.polysync_conn_id, task.region_name, config=RATE_LIMITED_CONFIG
        )
        jobs = import_jobs(
            hook,
            name_prefix=task.pipeline_name_prefix,
            names=task.pipeline_names,
            managed_by=task.managed_by,
        )
        for line in describe_import(jobs):
            self.log.info("%s", line)
        if catalogue is not None:
            self._compare(catalogue, jobs)
        return [job.model_dump(mode="json") for job in jobs]

    def _read_catalogue(self) -> Catalogue | None:
        path = self.task.compare_with
        if path is None:
            return None
        if not isinstance(path, str) or not path.strip():
            raise ParametersError(
                f"compare_with = {path!r:.100} is not valid: give the path of a"
                " catalogue file."
            )
        return read_catalogue(path)

    def _compare(self, catalogue: Catalogue, jobs: Sequence[Job]) -> None:
        task = self.task
        names = None
        if task.pipeline_names is not None:
            names = frozenset(map(pipeline_name_of, task.pipeline_names))
        scope = Scope(task.pipeline_name_prefix or "", names)
        lines = []
        for drift in compare(catalogue, jobs, scope):
            line = describe_drift(drift)
            if drift.is_note:
                self.log.info("%s", line)
            else:
                self.log.warning("%s", line)
                lines.append(line)
        if not lines:
            self.log.info("The pipelines are as in %s.", task.compare_with)
        elif task.on_drift == "fail":
            # The log has all lines.
            listed = "\n".join(f"- {line}" for line in first_problems(lines))
            raise CatalogueDriftError(
                f"The pipelines differ from {task.compare_with} in {len(lines):,}"
                " points. Review them, and write the file again with: polysync jobs"
                f" import <file>\n{listed}"
            )
