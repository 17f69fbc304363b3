"""
A task group that shows a SageMaker pipeline in Airflow's grid: a task for each step of
its definition.

The graph comes from a file, so a parse makes no call. Step names are checked before
they become task ids, and no text of a definition is ever rendered as a template.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from airflow.providers.common.compat.sdk import TaskGroup

from polysync_airflow.airflow_compat.sdk import EmptyOperator
from polysync_airflow.exceptions import CatalogueError, ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.pipelines import JobStep, declared_steps, job_steps
from polysync_airflow.jobs.catalogue import CatalogueJob, read_catalogue, steps_of
from polysync_airflow.operators import step_tasks

__all__ = ["PolysyncPipelineTaskGroup"]

# The ids of the first task, and of the one that is responsible for the execution.
FIRST: Final = "begin"
EXECUTION: Final = "execution"
# Arguments of a Start task that a group sets itself, and why.
_OWN: Final = {
    "deferrable": "its tasks always wait in the triggerer",
    "wait_for_completion": "its tasks show the steps while the execution runs",
    "retry_mode": "a retry resumes the execution",
    "on_clear": "what a clear does follows from the tasks that are cleared",
    "outlets": "give them to a task after the group",
}
_GROUP_ARGUMENTS: Final = (
    "prefix_group_id",
    "parent_group",
    "dag",
    "default_args",
    "tooltip",
    "ui_color",
    "ui_fgcolor",
    "add_suffix_on_collision",
    "group_display_name",
)
# Airflow limits the length of ids, and the id of the group comes before that of a task.
_MAX_ID: Final = 120


class PolysyncPipelineTaskGroup(TaskGroup):
    """
    Start a pipeline, and show each step of its definition as a task, with its state,
    log, times and links.

    ::

        with DAG("churn", schedule="@weekly"):
            churn = PolysyncPipelineTaskGroup(
                group_id="churn",
                pipeline_name="churn-tuning",
                definition="churn_tuning.json",
            )
            churn["TrainModel"] >> compare()
            churn >> report()

    The group has the task ``begin``, a task for each step, and below them
    ``execution``, which starts the execution and is responsible for it, as
    ``PolysyncStartPipelineOperator`` is: its XComs, buttons and errors are the same. A
    step in the branch of a condition has a task, too; a ForEach step is one task.

    See docs/how-to/steps-as-tasks.md for what a clear does.

    :param group_id: the id of the group.
    :param pipeline_name: the name or ARN of the pipeline (templated). Default: that of
        the job.
    :param definition: a file with the pipeline's definition, as JSON. A relative path
        begins at the folder of the DAG file.
    :param job: the name of a job in ``catalogue``, in place of ``definition``.
    :param catalogue: the file that ``polysync jobs import`` has written.
    :param kwargs: further arguments of ``PolysyncStartPipelineOperator`` and of
        ``TaskGroup``. ``poll_interval`` is the seconds between two lists of the steps,
        which all tasks share. ``retries`` is how often AWS resumes an execution that
        has failed; the tasks of the steps have as many.
    :raises ParametersError: an argument is not valid, or the file has no steps.
    :raises CatalogueError: the catalogue cannot be read, or has no such job.
    """

    def __init__(
        self,
        group_id: str,
        *,
        pipeline_name: Any = None,
        definition: str | os.PathLike[str] | None = None,
        job: str | CatalogueJob | None = None,
        catalogue: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        folder = Path(sys._getframe(1).f_globals.get("__file__", "")).parent
        for name in _OWN.keys() & kwargs.keys():
            raise ParametersError(
                f"{name} = {texts.shorten(kwargs[name])}: leave it out, since"
                f" {_OWN[name]}."
            )
        steps, job_name = _steps_of(folder, definition, job, catalogue)
        if pipeline_name is None:
            pipeline_name = job_name
        if pipeline_name is None:
            raise ParametersError(
                "pipeline_name is missing: the file of a definition does not name it."
            )
        group_arguments = _select(_GROUP_ARGUMENTS, kwargs)
        super().__init__(group_id, **group_arguments)
        for name in group_arguments:
            del kwargs[name]
        arguments = {**kwargs, "dag": self.dag, "pipeline_name": pipeline_name}
        self._add_tasks(steps, arguments)

    def _add_tasks(self, steps: Sequence[JobStep], arguments: dict[str, Any]) -> None:
        ids = _task_ids(steps)
        prefix = ""
        if self.prefix_group_id:
            prefix = f"{self.group_id}."
        self.step_task_ids = {
            step: f"{prefix}{task_id}" for step, task_id in ids.items()
        }
        first_arguments = _select((*_OF_ALL, "trigger_rule"), arguments)
        first = EmptyOperator(task_id=FIRST, task_group=self, **first_arguments)
        arguments.pop("trigger_rule", None)
        execution = step_tasks.PolysyncStepsExecutionOperator(
            task_id=EXECUTION,
            task_group=self,
            first_task_id=first.task_id,
            step_task_ids=self.step_task_ids,
            **arguments,
        )
        first >> execution
        step_arguments = _select(_SHARED, arguments)
        tasks = {
            step.name: step_tasks.PolysyncPipelineStepOperator(
                task_id=ids[step.name],
                task_display_name=step.name,
                task_group=self,
                execution_task_id=execution.task_id,
                step_name=step.name,
                **step_arguments,
            )
            for step in steps
        }
        last = set(tasks)
        for step in steps:
            above = {*step.needs}
            if step.condition:
                above.add(step.condition)
            last -= above
            tasks[step.name].set_upstream(
                [tasks[name] for name in sorted(above)] or first
            )
        for name in last:
            tasks[name].set_downstream(execution)

    def __getitem__(self, step: str) -> Any:
        """
        Return the task of a step.

        :raises KeyError: the definition has no such step. The text names a similar one.
        """
        if step in self.step_task_ids:
            return self.children[self.step_task_ids[step]]
        nearest = texts.nearest_name(step, self.step_task_ids)
        cure = f"it has {', '.join(self.step_task_ids)}"
        if nearest:
            cure = f"did you mean {nearest!r}?"
        raise KeyError(f"{self.group_id} has no step {step!r}: {cure}")


# What the tasks of the steps share with the execution task.
_OF_ALL: Final = (
    "dag",
    "pool",
    "priority_weight",
    "weight_rule",
    "queue",
    "owner",
    "start_date",
    "end_date",
)
_SHARED: Final = (
    *_OF_ALL,
    "polysync_conn_id",
    "region_name",
    "poll_interval",
    "property_files",
    "retries",
    "retry_delay",
    "on_failure_callback",
    "on_success_callback",
)


def _select(names: Sequence[str], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that have one of the names."""
    return {name: arguments[name] for name in names if name in arguments}


def _steps_of(
    folder: Path,
    definition: str | os.PathLike[str] | None,
    job: str | CatalogueJob | None,
    catalogue: str | os.PathLike[str] | None,
) -> tuple[Sequence[JobStep], str | None]:
    """Return the steps of the pipeline, and its name or ARN if that is known."""
    if (definition is None) == (job is None):
        both = "are both given"
        if job is None:
            both = "are both missing"
        raise ParametersError(f"definition and job {both}: give one of them.")
    if job is not None and not isinstance(job, CatalogueJob):
        if catalogue is None:
            raise ParametersError(
                f"job = {job!r}: give the file of the job, too, in the argument"
                " catalogue."
            )
        job = _job_of(folder / catalogue, job)
    if job is not None:
        return steps_of(job), models.name_or_arn(job.name, job.arn)
    file = os.fspath(definition or "")
    try:
        text = (folder / file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParametersError(
            f"definition = {file!r}: the file cannot be read: {error}."
        ) from None
    steps, problem = job_steps(declared_steps(text))
    if not steps:
        problem = problem or "it has no steps"
        raise ParametersError(
            f"definition = {file!r}: {problem}. Give the JSON of a pipeline definition,"
            " such as PipelineDefinition of DescribePipeline."
        )
    return steps, None


def _job_of(path: Path, name: str) -> CatalogueJob:
    catalogue = read_catalogue(path)
    for broken in catalogue.broken:
        if broken.name == name:
            raise CatalogueError(f"{path.name}: {name}: {broken.problem}")
    jobs = {job.name: job for job in catalogue.jobs}
    if name in jobs:
        return jobs[name]
    hint = "."
    nearest = texts.nearest_name(name, jobs)
    if nearest:
        hint = f": did you mean {nearest!r}?"
    raise CatalogueError(f"{path.name} has no job {name!r}{hint}")


def _task_ids(steps: Sequence[JobStep]) -> dict[str, str]:
    """
    Return the ids of the steps' tasks in the group: their names, where Airflow allows
    them.
    """
    ids: dict[str, str] = {}
    used_ids = {FIRST, EXECUTION}
    for step in steps:
        task_id = re.sub(r"[^A-Za-z0-9_-]", "_", step.name)[:_MAX_ID]
        if task_id != step.name or task_id in used_ids:
            task_id = f"{task_id}_{hashlib.sha256(step.name.encode()).hexdigest()[:8]}"
        ids[step.name] = task_id
        used_ids.add(task_id)
    return ids
