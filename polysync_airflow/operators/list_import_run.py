"""The run of a ListImport task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import CatalogueDriftError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.pipelines import Job
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs import importer
from polysync_airflow.jobs.catalogue import Catalogue, Scope, read_catalogue
from polysync_airflow.jobs.drift import compare, describe_drift

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.operators.list_import import PolysyncListImportOperator


# The XCom that says what was left out.
NOT_IMPORTED_KEY: Final = "not_imported"


class ListImportRun:
    """
    The one session of a ListImport task, which waits for nothing.

    :param task: the operator, whose templates are rendered.
    """

    def __init__(self, task: PolysyncListImportOperator, context: Context) -> None:
        self.task = task
        self.ti: Any = context["ti"]
        self.log = task.log

    def execute(self) -> list[dict[str, Any]]:
        """List and describe the pipelines, and return the jobs."""
        catalogue = self._read_catalogue()
        task = self.task
        hook = PolysyncSageMakerHook(
            task.polysync_conn_id, task.region_name, config=RATE_LIMITED_CONFIG
        )
        left_out: list[importer.NotImported] = []
        jobs = importer.import_jobs(
            hook,
            name_prefix=task.pipeline_name_prefix,
            names=task.pipeline_names,
            managed_by=task.managed_by,
            on_not_imported=left_out.append,
        )
        self._push(left_out)
        for line in importer.describe_import(jobs):
            self.log.info("%s", line)
        if left_out:
            self.log.warning(
                "Pipelines that are not imported: %s.",
                importer.count_not_imported(left_out),
            )
        if catalogue is not None:
            self._compare(catalogue, jobs, left_out)
        return [job.model_dump(mode="json") for job in jobs]

    def _push(self, left_out: Sequence[importer.NotImported]) -> None:
        pipelines = [each.as_json() for each in left_out[: importer.MAX_LISTED]]
        value = {"count": len(left_out), "pipelines": pipelines}
        self.ti.xcom_push(NOT_IMPORTED_KEY, value)

    def _read_catalogue(self) -> Catalogue | None:
        path = self.task.compare_with
        if path is None:
            return None
        if not isinstance(path, str) or not path.strip():
            raise texts.invalid_argument(
                "compare_with", path, "give the path of a catalogue file"
            )
        return read_catalogue(path)

    def _compare(
        self,
        catalogue: Catalogue,
        jobs: Sequence[Job],
        left_out: Sequence[importer.NotImported],
    ) -> None:
        task = self.task
        names = None
        if task.pipeline_names is not None:
            names = frozenset(map(models.pipeline_name_of, task.pipeline_names))
        scope = Scope(
            task.pipeline_name_prefix or "", names, importer.names_of(left_out)
        )
        # The log has the reasons already.
        lines = [
            f"{each.name}: it was not compared ({each.reason})" for each in left_out
        ]
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
            listed = "\n".join(f"- {line}" for line in texts.first_problems(lines))
            raise CatalogueDriftError(
                f"The pipelines differ from {task.compare_with} in {len(lines):,}"
                " points. Review them, and write the file again with: polysync jobs"
                f" import <file>\n{listed}"
            )
