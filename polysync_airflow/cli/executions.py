"""
The command ``polysync executions``: lists, shows, stops and watches them, for whoever
has no browser.
"""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow import exceptions, states
from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.cli import output
from polysync_airflow.execution import (
    clock,
    console,
    models,
    outcome,
    parameters,
    texts,
    waiter,
)
from polysync_airflow.execution.lifecycle.instructions import owner_text
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription, rows_of
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.get_provider_info import CONFIG_SECTION, HOURLY_PRICES
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import request_stop, result_or_error, stop_result
from polysync_airflow.jobs import importer
from polysync_airflow.operators.base import list_steps_if_due
from polysync_airflow.operators.results import ResultReader, StepReport

# Of a pipeline. commands.toml says so.
MAX_LISTED: Final = 1000
POLL_SECONDS: Final = 10.0


def main(args: Namespace) -> int:
    """Run the command, and return its exit code."""
    if args.command == "list":
        return _list(args)
    arn = parameters.check_execution_arn(args.execution_arn)
    region = models.region_from_arn(arn)
    if args.region not in (None, region):
        args.parser.error(
            f"--region {args.region}: the execution is in {region}, so leave it out"
        )
    hook = PolysyncSageMakerHook(args.conn_id, region, config=REPORT_CONFIG)
    with output.airflow_in_use(args.conn_id):
        execution = hook.describe_pipeline_execution(arn)
    if args.command == "show":
        return _show(args, hook, execution)
    if args.command == "stop":
        return _stop(args, hook, execution)
    return _watch(args, hook, execution)


def _facts(execution: ExecutionDescription) -> dict[str, Any]:
    """Return what the list, ``show`` and ``stop`` write of an execution."""
    return {
        "started_at": output.in_seconds(execution.created_at),
        "state": states.state_of(execution.status).value,
        "status": execution.status,
        "execution_arn": execution.execution_arn,
        "display_name": execution.display_name,
        "airflow_task": owner_text(execution.display_name, execution.description),
    }


def _line(facts: dict[str, Any]) -> str:
    columns = "{started_at:25}  {state:9}  {status:21}  {execution_arn}  {display_name}"
    texts = {name: value or "" for name, value in facts.items()}
    line = columns.format(**texts)
    cost = facts.get("cost")
    if cost:
        line += f"  {cost['amount']:,.2f} {cost['currency']} {cost['note'] or ''}"
    return line.rstrip()


def _list(args: Namespace) -> int:
    from polysync_airflow.watch.sweep import find_waiting

    names = []
    if args.pipeline:
        names = parameters.check_pipeline_names([args.pipeline])
    if args.costs and not conf.get(*HOURLY_PRICES, fallback="").strip():
        args.parser.error(
            f"--costs needs the prices of instances: set [{CONFIG_SECTION}]"
            " hourly_prices"
        )
    since = None
    if args.since:
        since = clock.now() - args.since
    rows: list[dict[str, Any]] = []
    with output.airflow_in_use(args.conn_id, "Pipelines read:") as on_item:
        hook = output.hook(args)
        with importer.concurrent_calls(hook) as calls:
            if not names:
                names += importer.pipelines_with(
                    hook, args.prefix, args.managed_by, calls
                )
            if not names and args.prefix:
                raise importer.no_pipeline_error(
                    hook, "--prefix", args.prefix, args.managed_by
                )
            for executions in calls.map(partial(_newest, hook, args, since), names):
                on_item("")
                rows += map(_facts, executions)
    rows.sort(key=lambda row: row["started_at"] or "", reverse=True)
    shown = rows[: args.max_executions]
    successful = [row for row in shown if row["state"] == states.PolysyncState.SUCCESS]
    for row in successful[: args.costs]:
        arn = row["execution_arn"]
        with output.airflow_in_use(args.conn_id):
            steps = _value_or([], hook.list_pipeline_execution_steps, arn)
            cost = _report(hook, arn, steps).cost
        row["cost"] = cost and cost.model_dump(mode="json")
    waiting: list[dict[str, Any]] = []
    if args.state is None:
        # By their records, if Airflow's database can be used.
        with suppress(SQLAlchemyError):
            waiting += find_waiting({name.rsplit("/")[-1] for name in names})
    summary = f"{len(shown):,} executions of {len(names):,} pipelines"
    if len(rows) > len(shown):
        summary += "; there are more: give --max-executions"
    output.write_message(summary)
    document = {"executions": shown, "waiting": waiting}
    lines = [*map(_waiting_line, waiting), *map(_line, shown)]
    return output.write(args, document, lines)


def _waiting_line(facts: dict[str, Any]) -> str:
    text = (
        "{since}  Waits for capacity, asks again at {asks_at}: {pipeline_name},"
        " task {dag_id}/{task_id}/{run_id}: {reason}"
    )
    return clean_line(text.format(**facts))


def _newest(
    hook: PolysyncSageMakerHook,
    args: Namespace,
    since: datetime | None,
    pipeline: str,
) -> list[ExecutionDescription]:
    """Return the newest executions of a pipeline, one more than are shown."""
    newest = hook.find_pipeline_executions(
        pipeline, created_after=since, newest_first=True, through=lambda call: call()
    )
    matching = (
        execution
        for execution in islice(newest, MAX_LISTED)
        if args.state in (None, states.state_of(execution.status))
    )
    try:
        return [*islice(matching, args.max_executions + 1)]
    except exceptions.SageMakerApiError as error:
        is_missing = exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND)
        if args.pipeline and is_missing:
            raise importer.no_pipeline_error(hook, "--pipeline", pipeline) from None
        raise


def _show(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    """
    Write an execution and its steps. What AWS refuses is left out, with a warning.
    """
    arn = execution.execution_arn
    with output.airflow_in_use(args.conn_id):
        values = _value_or({}, hook.list_pipeline_parameters_for_execution, arn)
        steps = _value_or([], hook.list_pipeline_execution_steps, arn)
        declared = _value_or([], hook.describe_pipeline_definition_for_execution, arn)
        report = _report(hook, arn, steps)
    report = replace(report, rows=rows_of(steps, declared, arn))
    run = outcome.described(execution, parameters=values)
    run = run.model_copy(update=report.run_members)
    headline = f"Pipeline {run.pipeline_name}: {run.state}."
    end = _waiter(execution).updated(execution).end_of(execution, 0)
    if end:
        run = run.ended(end)
        headline = outcome.outcome_message(end)
    facts = {"created_by": execution.created_by, **_facts(execution)}
    facts["console_url"] = console.execution_url(arn, run.pipeline_name)

    document = {**facts, **run.model_dump(mode="json", exclude_unset=True)}
    document["steps"] = [row.model_dump(mode="json") for row in report.rows]
    document["failed_steps"] = [row.name for row in report.failed]

    facts["ended_at"] = output.in_seconds(run.ended_at)
    if run.billable_seconds is not None:
        facts["billable_time"] = texts.format_seconds(run.billable_seconds)
    if run.cost:
        facts["estimated_cost"] = run.cost.text
    facts["parameters"] = json.dumps(values)
    lines = [headline]
    for name, value in facts.items():
        if value:
            lines.append(f"{name.replace('_', ' ').capitalize()}: {value}")
    for row in report.rows:
        lines += outcome.step_lines(row)
    return output.write(args, document, lines)


def _report(
    hook: PolysyncSageMakerHook, arn: str, steps: Sequence[StepDescription]
) -> StepReport:
    """Describe the jobs of the steps. What is missing is a warning."""
    warn = logging.getLogger(__name__).debug
    report = ResultReader(hook, arn, warn, property_files=False).read(steps)
    for note in report.notes:
        output.write_message(f"warning: {note}")
    return report


def _value_or(default: Any, call: Callable[[str], Any], arn: str) -> Any:
    """Return what a call returns; a default, with a warning, if it fails."""
    value = result_or_error(call, arn)
    if isinstance(value, exceptions.PolysyncError):
        output.write_message(f"warning: {' '.join(str(value).split())}")
        return default
    return value


def _waiter(execution: ExecutionDescription) -> waiter.ExecutionWaiter:
    return waiter.ExecutionWaiter(
        execution_arn=execution.execution_arn,
        pipeline_name=models.pipeline_name_of(execution.execution_arn),
        poll_interval=POLL_SECONDS,
        since=clock.time(),
        deadline=models.MAX_TIMESTAMP,
    )


def _stop(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    arn = execution.execution_arn
    status: str | None = execution.status
    facts = _facts(execution)
    if states.is_stoppable(execution.status):
        warnings = output.COMMANDS["warnings"]
        warning = warnings["stop_of_nobody"]
        if facts["airflow_task"]:
            warning = warnings["stop"].format(facts["airflow_task"])
        if args.yes:
            output.write_message(warning)
        elif not output.confirms(args, warning, f"Stop {arn}?"):
            return output.FAILED
        with output.airflow_in_use(args.conn_id):
            status = request_stop(hook, arn)
    result = stop_result(status)
    facts["state"] = states.state_of(result.status).value
    facts["status"] = result.status
    facts["stop"] = result.text
    return output.write(args, facts, [f"{result.text} {arn}"])


def _watch(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    stream = sys.stdout
    if args.output == "json":
        # There, stdout has one document, at the end.
        stream = sys.stderr
    arn = execution.execution_arn
    wait = _waiter(execution)
    progress = Progress(0.0)
    response: ExecutionDescription | exceptions.PolysyncError = execution
    try:
        while True:
            result = wait.decide(response, clock.time())
            lines = [*result.log_lines]
            listed = list_steps_if_due(hook, arn, progress, response)
            if listed:
                lines += listed.log_lines
            for line in lines:
                for text in line.text.splitlines():
                    print(f"{clock.now():%H:%M:%S} {text}", file=stream, flush=True)
            if isinstance(result, waiter.Finish):
                break
            wait = result.waiter
            clock.sleep(result.seconds)
            response = hook.poll_pipeline_execution(arn)
    except KeyboardInterrupt:
        output.write_message(f"The execution goes on: {arn}")
        raise
    if isinstance(response, exceptions.PolysyncError):
        raise response
    _show(args, hook, response)
    if states.state_of(response.status) is states.PolysyncState.SUCCESS:
        return output.OK
    return output.FAILED
