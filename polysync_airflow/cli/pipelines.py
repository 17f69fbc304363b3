"""
The command ``polysync pipelines``: the pipelines that tasks of this deployment have
made, and which of them no task needs any more.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.database import has_task
from polysync_airflow.cli import output
from polysync_airflow.deployment import deployments_of_database
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution import job_pipelines
from polysync_airflow.execution.job_types import NAME_PREFIX, is_name_of_task
from polysync_airflow.execution.pipelines import PipelineSummary
from polysync_airflow.execution.texts import first_problems
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import concurrent_calls

_HEADS: Final = ("PIPELINE", "DAG", "TASK", "TASK EXISTS")
_EXISTS: Final = {True: "yes", False: "no", None: "unknown"}


class MadePipeline(NamedTuple):
    """
    A pipeline that a task of this deployment has made.

    :param task_exists: whether Airflow has the task; None if its DAG cannot be read.
    """

    name: str
    dag_id: str
    task_id: str
    task_exists: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        return (self.name, self.dag_id, self.task_id, _EXISTS[self.task_exists])


def main(args: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    try:
        if args.command == "list":
            return _list(args)
        return _delete(args)
    except SQLAlchemyError as error:
        return output.database_error(error)


def _list(args: argparse.Namespace) -> int:
    made = _made_pipelines(args)
    if args.unused:
        made = [each for each in made if each.task_exists is False]
    document = {"pipelines": [each._asdict() for each in made]}
    rows = [_HEADS, *(each.cells for each in made)]
    return output.write(args, document, output.table(rows, _HEADS[:3]))


def _delete(args: argparse.Namespace) -> int:
    made = {each.name: each for each in _made_pipelines(args, args.names)}
    refused = [name for name in args.names if name not in made]
    if refused:
        raise ParametersError(
            "No task of this deployment has made, under a name that follows from it:"
            f" {', '.join(first_problems(refused))}. Nothing was deleted. See: polysync"
            " pipelines list"
        )
    rows = [_HEADS, *(each.cells for each in made.values())]
    text = "\n".join([*output.table(rows, ()), "Their executions are deleted, too."])
    counted = output.counted(len(made), "pipeline")
    if args.yes:
        output.write_message(text)
    elif not output.confirms(args, text, f"Delete {counted}?"):
        return output.FAILED
    results = []
    with output.airflow_in_use(args.conn_id, "Pipelines deleted:") as on_deleted:
        hook = output.hook(args)
        for name in made:
            problem = _problem_of_deletion(hook, name)
            results.append({"name": name, "deleted": not problem, "problem": problem})
            on_deleted(name)
    lines = [f"{each['name']}: {each['problem'] or 'deleted'}" for each in results]
    output.write(args, {"pipelines": results}, lines)
    return output.OK if all(each["deleted"] for each in results) else output.FAILED


def _problem_of_deletion(hook: PolysyncSageMakerHook, name: str) -> str | None:
    try:
        hook.delete_pipeline(name)
    except SageMakerApiError as error:
        return f"not deleted: {error}"
    return None


def _made_pipelines(
    args: argparse.Namespace, names: Collection[str] | None = None
) -> list[MadePipeline]:
    """
    Return the pipelines that tasks of this deployment have made.

    :param names: only these; None for all.
    """
    with output.airflow_in_use(args.conn_id, "Pipelines examined:") as on_examined:
        deployments = deployments_of_database()
        hook = output.hook(args)
        made: list[MadePipeline] = []
        with concurrent_calls(hook) as calls:
            listed = hook.list_pipelines(NAME_PREFIX, through=calls.call)
            of_tasks = (
                each
                for each in listed
                if is_name_of_task(each.name) and (names is None or each.name in names)
            )
            for pipeline, tags in calls.map(partial(_with_tags, hook), of_tasks):
                on_examined(pipeline.name)
                made += _made_by(pipeline.name, tags, deployments)
    return made


def _with_tags(
    hook: PolysyncSageMakerHook, pipeline: PipelineSummary
) -> tuple[PipelineSummary, dict[str, str]]:
    return pipeline, hook.pipeline_tags(pipeline.arn)


def _made_by(
    name: str, tags: dict[str, str], deployments: Collection[str]
) -> Iterator[MadePipeline]:
    """
    Yield the pipeline if a task of one of the deployments has made it. Anybody can copy
    tags, so the name must follow from them.
    """
    dag_id = tags.get(job_pipelines.DAG_TAG, "")
    task_id = tags.get(job_pipelines.TASK_TAG, "")
    own: set[Any] = {
        job_pipelines.pipeline_name(each, dag_id, task_id) for each in deployments
    }
    if name in own:
        yield MadePipeline(name, dag_id, task_id, has_task(dag_id, task_id))
