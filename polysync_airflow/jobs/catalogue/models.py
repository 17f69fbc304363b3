"""The content of a catalogue file. Its jobs have the same keys as those of ``PolysyncListImportOperator``."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

from pydantic import ConfigDict, Field, StringConstraints

from polysync_airflow.execution.models import (
    PIPELINE_ARN_PATTERN,
    REGION_PATTERN,
    ExecutionDisplayName,
    FrozenModel,
    PipelineName,
    RoleArn,
)
from polysync_airflow.execution.pipelines.models import DeclaredParameter
from polysync_airflow.execution.texts import DescriptionText, ReasonText

VERSION: Final = 1
MAX_DECLARED_PARAMETERS: Final = 1000


class CatalogueParameter(DeclaredParameter):
    """
    A parameter of a job.

    :param description: what people have written about it in the file; AWS has no such text.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    description: DescriptionText | None = None


class CatalogueJob(FrozenModel):
    """
    A job of a catalogue file.

    :param role_arn: the pipeline's role; None in a file of an earlier version.
    :param execution_display_name: what people have written: the display name of executions that a DAG of the
        job starts; None for unique names.
    :param description: the pipeline's description, or what people have written in its place.
    :param definition_digest: ``sha256:<hex>`` of the definition; None if it cannot be read.
    :param parameters: the declared parameters, in the definition's order.
    :param parameters_error: why the parameters could not be read; None if they were.
    """

    model_config = ConfigDict(extra="forbid")

    name: PipelineName
    arn: Annotated[str, StringConstraints(max_length=2048, pattern=f"^{PIPELINE_ARN_PATTERN}")]
    region: Annotated[str, StringConstraints(max_length=64, pattern=REGION_PATTERN)]
    role_arn: RoleArn | None = None
    execution_display_name: ExecutionDisplayName | None = None
    description: DescriptionText | None = None
    definition_digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    parameters: list[CatalogueParameter] = Field(default_factory=list, max_length=MAX_DECLARED_PARAMETERS)
    parameters_error: ReasonText | None = None


class BrokenJob(NamedTuple):
    """
    An entry of a catalogue file that is no job.

    :param name: its name; ``jobs[<index>]`` if it has none.
    """

    name: str
    problem: str


class Catalogue(NamedTuple):
    """
    What a catalogue file holds.

    :param jobs: the jobs, in the order of the file.
    :param broken: the entries that are no jobs. They do not keep the others from being used.
    """

    jobs: list[CatalogueJob]
    broken: list[BrokenJob]


class Scope(NamedTuple):
    """
    Which pipelines an import has asked AWS for. Only these can be compared with a catalogue.

    ::

        "churn-daily" in Scope(prefix="churn-")

    :param prefix: pipelines whose names begin with it; empty for all.
    :param names: these pipelines only; None for all.
    """

    prefix: str = ""
    names: frozenset[str] | None = None

    def __contains__(self, name: object) -> bool:
        """Return whether a pipeline of this name is asked for."""
        named = self.names is None or name in self.names
        return named and isinstance(name, str) and name.startswith(self.prefix)

    def has_entry(self, broken: BrokenJob) -> bool:
        """Return whether a broken entry is in the scope. One without a name is only in that of all."""
        return self == Scope() or broken.name in self


def as_entry(job: CatalogueJob) -> dict[str, Any]:
    """Return a job as plain data for the file, without members that are empty."""
    entry = job.model_dump(mode="json", exclude={"parameters"}, exclude_none=True)
    entry["parameters"] = [each.model_dump(mode="json", exclude_none=True) for each in job.parameters]
    return entry
