"""
The command ``polysync pipelines``: the pipelines that tasks of this deployment have
made, and which of them no task needs any more.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow import deployment, exceptions
from polysync_airflow.airflow_compat.database import has_task
from polysync_airflow.cli import output
from polysync_airflow.execution import job_pipelines, job_types, pipelines, texts
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
    return output.write(args, document, _table(made, _HEADS[:3]))


def _table(made: Iterable[MadePipeline], cut: Collection[str] = ()) -> Iterator[str]:
    rows = [(*each[:3], _EXISTS[each.task_exists]) for each in made]
    return output.table([_HEADS, *rows], cut)


def _delete(args: argparse.Namespace) -> int:
    made = {each.name: each for each in _made_pipelines(args, args.names)}
    refused = [name for name in args.names if name not in made]
    if refused:
        raise exceptions.ParametersError(
            "No task of this deployment has made, under a name that follows from it:"
            f" {', '.join(texts.first_problems(refused))}. Nothing was deleted. See:"
            " polysync pipelines list"
        )
    text = "\n".join([*_table(made.values()), "Their executions are deleted, too."])
    counted = output.counted(len(made), "pipeline")
    if not output.confirms(args, text, f"Delete {counted}?"):
        return output.FAILED
    results = []
    with output.airflow_in_use(args.conn_id, "Pipelines deleted:") as on_deleted:
        hook = output.hook(args)
        for name in made:
            problem = None
            try:
                hook.delete_pipeline(name)
            except exceptions.SageMakerApiError as error:
                problem = f"not deleted: {error}"
            results.append({"name": name, "deleted": not problem, "problem": problem})
            on_deleted(name)
    lines = [f"{each['name']}: {each['problem'] or 'deleted'}" for each in results]
    output.write(args, {"pipelines": results}, lines)
    return output.OK if all(each["deleted"] for each in results) else output.FAILED


def _made_pipelines(
    args: argparse.Namespace, names: Collection[str] | None = None
) -> list[MadePipeline]:
    """
    Return the pipelines that tasks of this deployment have made.

    :param names: only these; None for all.
    """
    with output.airflow_in_use(args.conn_id, "Pipelines examined:") as on_examined:
        deployments = deployment.deployments_of_database()
        hook = output.hook(args)
        made: list[MadePipeline] = []
        with concurrent_calls(hook) as calls:
            listed = hook.list_pipelines(job_types.NAME_PREFIX, through=calls.call)
            of_tasks = (
                each
                for each in listed
                if job_types.is_name_of_task(each.name)
                and (names is None or each.name in names)
            )
            for name, tags in calls.map(partial(_with_tags, hook), of_tasks):
                on_examined(name)
                dag_id = tags.get(job_pipelines.DAG_TAG, "")
                task_id = tags.get(job_pipelines.TASK_TAG, "")
                # Anybody can copy tags, so the name must follow from them.
                if name in {
                    job_pipelines.pipeline_name(each, dag_id, task_id)
                    for each in deployments
                }:
                    task_exists = has_task(dag_id, task_id)
                    made.append(MadePipeline(name, dag_id, task_id, task_exists))
    return made


def _with_tags(
    hook: PolysyncSageMakerHook, pipeline: pipelines.PipelineSummary
) -> tuple[str, dict[str, str]]:
    return pipeline.name, hook.pipeline_tags(pipeline.arn)
