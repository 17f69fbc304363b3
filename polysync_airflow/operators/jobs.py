"""
The operator that runs a job, as the step of a pipeline that it makes: a start that
makes its pipeline before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.job_types import JOB_TYPES, STEP_MEMBERS
from polysync_airflow.execution.texts import invalid_argument, shorten
from polysync_airflow.operators.start import PolysyncStartPipelineOperator

if TYPE_CHECKING:
    from airflow.sdk import XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

# Arguments of a start that are about a pipeline that somebody else has made.
_NOT_FOR_JOBS: Final = (
    "execution_role_arn",
    "pipeline_version_alias",
    "pipeline_version_id",
    "selected_steps",
    "source_execution",
)


class PolysyncRunJobOperator(PolysyncStartPipelineOperator):
    """
    Run a SageMaker job, as the only step of a pipeline that the task creates or
    updates, and wait until it has ended.

    At most one job runs for one task instance, as with
    ``PolysyncStartPipelineOperator``. Its other arguments, XComs and errors are those
    of this operator, except for ``execution_role_arn``, ``pipeline_version_id``,
    ``pipeline_version_alias``, ``selected_steps`` and ``source_execution``. A resume
    repeats the job with the config of its start.

    What Airflow renders in ``config`` is a parameter of the pipeline, so that all runs
    share one version of it. A member that renders to a list or dict, and a config that
    a task makes, are in the definition: each one that differs is a version. The
    execution runs the version of its own config in any case. See
    docs/how-to/run-a-job.md.

    :param job_type: ``Training``, ``Processing``, ``Transform`` or ``Tuning``.
    :param config: the request of CreateTrainingJob, CreateProcessingJob,
        CreateTransformJob or CreateHyperParameterTuningJob, or ``{"Model": ...,
        "Transform": ...}`` with that of CreateModel, too (templated). The name of the
        job is optional: AWS makes one that begins with it, as far as 38 characters, or
        6 of a tuning job. A text in the place of a number is read as that number. It
        may refer to ``pipeline_parameters``: ``{"Get": "Parameters.Day"}``.
    :param role_arn: the role of the pipeline, which starts the job (templated).
        Default: the execution role of the connection, else the role of the job.
    :param step: other members of the step: ``CacheConfig``, ``RetryPolicies``,
        ``PropertyFiles``, ``DisplayName``, ``Description``.
    :param pipeline_name: the name of the pipeline, at most 82 characters (templated).
        Default: ``airflow-`` with DAG, task and a digest of these and the deployment.
    :param pipeline_tags: tags of the pipeline when it is created, a dict (templated).
        Tags with the DAG and the task are added.
    :raises ParametersError: an argument is not valid; no execution was started.
    """

    makes_pipeline = True
    template_fields: Sequence[str] = (
        *PolysyncStartPipelineOperator.template_fields,
        "config",
        "role_arn",
        "pipeline_tags",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **PolysyncStartPipelineOperator.template_fields_renderers,
        "config": "json",
    }

    def __init__(
        self,
        *,
        job_type: str,
        config: Mapping[str, Any] | XComArg,
        role_arn: str | None = None,
        step: Mapping[str, Any] | None = None,
        pipeline_name: str | XComArg | None = None,
        pipeline_tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if job_type not in JOB_TYPES:
            raise invalid_argument(
                "job_type", job_type, f"give one of {', '.join(JOB_TYPES)}"
            )
        members = [*STEP_MEMBERS]
        if job_type != "Processing":
            members.remove("PropertyFiles")
        if step is not None and set(step) - set(members):
            raise ParametersError(
                f"step = {shorten(step)} is not valid: give a dict with some of"
                f" {', '.join(members)}. What the job does is in config."
            )
        refused = [name for name in _NOT_FOR_JOBS if kwargs.get(name) is not None]
        if refused:
            raise ParametersError(
                f"{refused[0]} = {shorten(kwargs[refused[0]])} is not valid: leave it"
                " out. The task runs the pipeline that it makes, as a whole."
            )
        # None until the task runs, which knows its deployment.
        super().__init__(pipeline_name=pipeline_name or "", **kwargs)
        self.job_type = job_type
        self.config = config
        self.role_arn = role_arn
        self.step = step
        self.pipeline_tags = pipeline_tags
        self.config_template = config

    def prepare_for_execution(self) -> Self:
        """Return the copy that Airflow executes, before it renders the templates."""
        task = super().prepare_for_execution()
        # A cluster policy may have changed it.
        task.config_template = task.config
        return task

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Prepare a mapped operator. All mapped tasks have one pipeline."""
        kwargs.setdefault("map_index_template", None)
        return super().partial(**kwargs)
