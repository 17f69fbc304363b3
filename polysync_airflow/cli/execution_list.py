"""The command ``polysync executions list``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from polysync_airflow import exceptions, get_provider_info, states
from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.cli import output, stored_runs, stored_tasks
from polysync_airflow.cli.execution_facts import (
    NOT_KNOWN,
    Answers,
    facts_of,
    refusal_text,
    task_text,
)
from polysync_airflow.cli.stored_tasks import StoredTasks, is_of_task
from polysync_airflow.execution import clock, models, parameters, texts
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs import importer

# The most executions of a pipeline that are listed. commands.toml says so.
MAX_LISTED: Final = 1000
# The columns up to the name of an execution, which is never cut: people copy it.
_FIRST: Final = 4


def list_executions(args: Namespace) -> int:
    """Run the command, and return its exit code."""
    if (
        args.costs
        and not conf.get(*get_provider_info.HOURLY_PRICES, fallback="").strip()
    ):
        args.parser.error(
            "--costs needs the prices of instances: set"
            f" [{get_provider_info.CONFIG_SECTION}] hourly_prices"
        )
    since = None
    if args.since:
        since = clock.now() - args.since
    rows: list[dict[str, Any]] = []
    with output.airflow_in_use(args.conn_id, "Pipelines read:") as on_item:
        hook = output.hook(args)
        with importer.concurrent_calls(hook) as calls:
            names = _pipelines(args, hook, calls)
            tasks = stored_tasks.read(args, names, since)
            read = partial(_newest, hook, args, since, tasks)
            for newest in calls.map(read, names):
                on_item("")
                rows += newest
            rows.sort(key=lambda row: row["started_at"] or "", reverse=True)
            shown = rows[: args.max_executions]
            notes = [*calls.map(partial(_add_end, hook), shown)]
        _add_costs(hook, shown, args.costs)
        runs = [_add_run(row, tasks) for row in shown]
    for note in dict.fromkeys(filter(None, [tasks.warning, *notes])):
        output.write_message(f"warning: {note}")
    executions = output.counted(len(shown), "execution")
    pipelines = output.counted(len(names), "pipeline")
    summary = f"{executions} of {pipelines} in {hook.client_region}"
    if shown and not args.wide:
        summary += "; --wide adds their ARNs"
    if len(rows) > len(shown):
        summary += "; there are more: give --max-executions"
    output.write_message(summary)
    document = {"executions": shown, **tasks.document}
    return output.write(args, document, [*tasks.lines, *_table(args, shown, runs)])


def _pipelines(
    args: Namespace, hook: PolysyncSageMakerHook, calls: ConcurrentCalls
) -> list[str]:
    if args.pipeline:
        return parameters.check_pipeline_names([args.pipeline])
    names = [*importer.pipelines_with(hook, args.prefix, args.managed_by, calls)]
    if not names and args.prefix:
        raise importer.no_pipeline_error(hook, "--prefix", args.prefix, args.managed_by)
    return names


def _newest(
    hook: PolysyncSageMakerHook,
    args: Namespace,
    since: datetime | None,
    tasks: StoredTasks,
    pipeline: str,
) -> list[dict[str, Any]]:
    """Return the newest executions of a pipeline, one more than are shown."""
    newest = hook.find_pipeline_executions(
        pipeline, created_after=since, newest_first=True, through=lambda call: call()
    )
    matching = (
        facts
        for facts in map(tasks.with_state, map(facts_of, islice(newest, MAX_LISTED)))
        if args.state in (None, facts["state"]) and is_of_task(args, facts)
    )
    try:
        name = {"pipeline_name": models.pipeline_name_of(pipeline)}
        return [name | row for row in islice(matching, args.max_executions + 1)]
    except exceptions.SageMakerApiError as error:
        if args.pipeline and exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
            raise importer.no_pipeline_error(hook, "--pipeline", pipeline) from None
        if not args.pipeline and exceptions.has_code(error, exceptions.ACCESS_DENIED):
            raise exceptions.ParametersError(
                f"{error} Or list only what the identity may read: --prefix, --pipeline"
            ) from None
        raise


def _add_end(hook: PolysyncSageMakerHook, row: dict[str, Any]) -> str | None:
    """
    Add to an execution when it ended, how long it took, and which steps failed; None in
    place of what AWS refuses to say. Return what that is, and why; None for nothing.
    """
    row |= {"ended_at": None, "seconds": None, "failed_steps": []}
    has_failed = states.state_of(row["status"]) is states.PolysyncState.FAILED
    if has_failed:
        row["failed_steps"] = None
    if not states.has_ended(row["status"]):
        return None
    arn = row["execution_arn"]
    missing = "durations, failed steps"
    try:
        execution = hook.describe_pipeline_execution(arn)
        row["ended_at"] = output.in_seconds(execution.modified_at)
        if execution.created_at and execution.modified_at:
            duration = execution.modified_at - execution.created_at
            row["seconds"] = duration.total_seconds()
        missing = "failed steps"
        if has_failed:
            steps = hook.list_pipeline_execution_steps(arn, through=lambda call: call())
            row["failed_steps"] = [
                step.name for step in steps if step.state is states.PolysyncState.FAILED
            ]
    except exceptions.PolysyncError as error:
        if error.transient:
            # It is called again.
            raise
        return f"{missing}: {NOT_KNOWN}, {refusal_text(error)}"
    return None


def _add_costs(
    hook: PolysyncSageMakerHook, rows: Sequence[dict[str, Any]], count: int
) -> None:
    """Add to the newest executions that have ended what they have used and cost."""
    ended = [row for row in rows if states.has_ended(row["status"])]
    for row in ended[:count]:
        list_steps = hook.list_pipeline_execution_steps
        steps = Answers().of("steps", list_steps, row["execution_arn"])
        added_up, _ = stored_runs.add_up_cost(hook, row, row["ended_at"], steps)
        if added_up:
            row.update(added_up.model_dump(mode="json"))


def _add_run(row: dict[str, Any], tasks: StoredTasks) -> stored_runs.StoredRun:
    """
    Add to an execution what its task knows of its resumes and of what comes next.
    """
    problem = tasks.not_known.get("next")
    stored = stored_runs.StoredRun(problem=problem)
    if problem is None or stored_runs.task_of(row) is None:
        stored = stored_runs.read_stored_run(row)
    row |= {
        "resumes": stored.resumes,
        "attempt_started_at": output.in_seconds(stored.resumed_at),
        "attempt_seconds": stored.run and stored.run.attempt_seconds,
        "next": stored.as_json,
    }
    return stored


def _table(
    args: Namespace,
    rows: Sequence[dict[str, Any]],
    runs: Sequence[stored_runs.StoredRun],
) -> list[str]:
    if not rows:
        return []
    cells = [_cells(args, row, stored) for row, stored in zip(rows, runs, strict=True)]
    table = [[*cells[0]], *([*row.values()] for row in cells)]
    if args.wide:
        return [*output.table(table, cut=())]
    lines = [*output.table(table, cut=("TASK", "RUN", "FAILED STEP", "COST"))]
    if max(map(len, lines)) > output.line_width():
        return _two_lines_each(table)
    return lines


def _two_lines_each(table: Sequence[Sequence[str]]) -> list[str]:
    """Return a table for a narrow terminal: each execution has a second line."""
    head, *first_lines = output.table([row[:_FIRST] for row in table], cut=())
    labels = [label.lower() for label in table[0][_FIRST:]]
    lines = [head]
    for line, row in zip(first_lines, table[1:], strict=True):
        # Run ids are long, and what comes last may be cut.
        cells = sorted(
            zip(labels, row[_FIRST:], strict=True), key=lambda cell: cell[0] == "run"
        )
        second = ", ".join(f"{label} {cell}" for label, cell in cells if cell)
        lines.append(line)
        if second:
            lines.append(texts.clean_line(f"    {second}", output.line_width()))
    return lines


def _cells(
    args: Namespace, row: dict[str, Any], stored: stored_runs.StoredRun
) -> dict[str, str]:
    """Return the cells of an execution, by the head of the table."""
    started_at = row["started_at"] or ""
    task = row["airflow_task"] or ""
    if "run_id" in row:
        task = task_text(row)
    execution = row["execution_arn"]
    if args.managed_by != "AWS" and not (args.pipeline or "").startswith("arn:"):
        # A name is that of a pipeline of the account.
        execution = f"{row['pipeline_name']}/{execution.rpartition('/')[2]}"
    if row["status"] == states.STATUS_STOPPING:
        # The tab and the page say so, too.
        row = {**row, "state": row["status"]}
    cells = {
        "STATE": row["state"],
        "STARTED (UTC)": started_at[:19].replace("T", " "),
        "DURATION": _duration_text(row, stored),
        "EXECUTION": execution,
        "TASK": task,
        "RUN": row.get("run_id", ""),
        "FAILED STEP": NOT_KNOWN,
    }
    if row["failed_steps"] is not None:
        cells["FAILED STEP"] = ", ".join(row["failed_steps"])
    cost = row.get("spending") or row.get("cost")
    if args.costs:
        cells["COST"] = ""
    if cost:
        as_of = row["added_up_at"][:16].replace("T", " ")
        text = f"{cost['amount']:,.2f} {cost['currency']}, as of {as_of}"
        cells["COST"] = f"{text} {cost['note'] or ''}".rstrip()
    if args.wide:
        cells["AWS STATUS"] = row["status"]
        cells["DISPLAY NAME"] = row["display_name"] or ""
        cells["ARN"] = row["execution_arn"]
        cells["NEXT"] = stored.line
        if stored.problem:
            cells["NEXT"] = NOT_KNOWN
    return cells


def _duration_text(row: dict[str, Any], stored: stored_runs.StoredRun) -> str:
    seconds = row["seconds"]
    if not states.has_ended(row["status"]) and row["started_at"]:
        started_at = datetime.fromisoformat(row["started_at"])
        seconds = (clock.now() - started_at).total_seconds()
    if seconds is None:
        return NOT_KNOWN
    return stored_runs.duration_text(seconds, row["attempt_seconds"], stored)
