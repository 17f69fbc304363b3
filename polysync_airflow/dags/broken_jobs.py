"""Shows jobs that cannot become DAGs as an import error, while the DAGs of the other jobs keep working."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, Final, NoReturn

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.texts import MAX_PROBLEMS
from polysync_airflow.jobs.catalogue.models import BrokenJob

# The name by which the global names of a DAG file have the messages of all its catalogues.
_MESSAGES: Final = "__polysync_broken_jobs__"


class BrokenJobsDag(DAG):
    """
    A DAG that Airflow refuses with the problems of the jobs as the error.

    Airflow validates each DAG of a file on its own: the others of the file are used, and "Import Errors" in
    the UI has the message. An error that the file itself raises would take all of its DAGs away.
    """

    messages: Sequence[str] = ()

    def validate(self) -> NoReturn:
        """Refuse the DAG: always raise ``CatalogueError``."""
        raise CatalogueError("\n".join(self.messages))


def show_broken_jobs(catalogue: str, broken: Sequence[BrokenJob], file: MutableMapping[str, Any]) -> None:
    """
    Let Airflow show the problems of jobs as an import error of the file that it parses.

    :param file: the global names of the DAG file.
    """
    if not broken:
        return
    count = len(broken)
    lines = [
        f"{count} job{'s' if count > 1 else ''} of {catalogue} cannot be DAGs. The others are not affected:"
    ]
    lines += [f"- {job.name}: {job.problem}" for job in broken[:MAX_PROBLEMS]]
    if count > MAX_PROBLEMS:
        lines.append(f"- and {count - MAX_PROBLEMS} more")
    # Airflow keeps one error for a file, so each of these DAGs has the messages of all.
    messages: list[str] = file.setdefault(_MESSAGES, [])
    messages.append("\n".join(lines))
    with BrokenJobsDag("polysync_broken_jobs", schedule=None) as dag:
        dag.messages = messages
