"""
The command ``polysync executions``: lists, shows, stops and watches them, for whoever
has no browser.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from polysync_airflow import exceptions, states
from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.cli import output
from polysync_airflow.execution import (
    clock,
    console,
    models,
    outcome,
    parameters,
    waiter,
)
from polysync_airflow.execution.lifecycle.instructions import owner_text
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import rows_of
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import request_stop, result_or_error, stop_result
from polysync_airflow.jobs import importer
from polysync_airflow.operators.base import list_steps_if_due
from polysync_airflow.operators.results import StepReport

# Of a pipeline. commands.toml says so.
MAX_LOOKED_AT: Final = 1000
POLL_SECONDS: Final = 10.0


def main(options: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    if options.command == "list":
        return _list(options)
    arn = parameters.check_execution_arn(options.execution_arn)
    region = models.region_from_arn(arn)
    if options.region not in (None, region):
        options.parser.error(
            f"--region {options.region}: the execution is in {region}, so leave it out"
        )
    hook = PolysyncSageMakerHook(options.conn_id, region, config=REPORT_CONFIG)
    with output.airflow_in_use(options.conn_id):
        seen = hook.describe_pipeline_execution(arn)
    return {"show": _show, "stop": _stop, "watch": _watch}[options.command](
        options, hook, seen
    )


def _facts(seen: ExecutionDescription) -> dict[str, Any]:
    return {
        "started_at": seen.created_at and seen.created_at.isoformat(timespec="seconds"),
        "state": states.state_of(seen.status).value,
        "status": seen.status,
        "execution_arn": seen.execution_arn,
        "display_name": seen.display_name,
        "airflow_task": owner_text(seen.display_name, seen.description),
    }


def _line(row: dict[str, Any]) -> str:
    columns = "{started_at:25}  {state:9}  {status:21}  {execution_arn}  {display_name}"
    return columns.format(**{name: value or "" for name, value in row.items()}).rstrip()


def _list(options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    given = parameters.check_pipeline_names(
        [options.pipeline] if options.pipeline else []
    )
    since = options.since and clock.now() - options.since
    with output.airflow_in_use(options.conn_id, "Pipelines read:") as on_item:
        hook = output.hook(options)
        with importer.concurrent_calls(hook) as calls:
            names = given or [
                *importer.pipelines_with(
                    hook, options.prefix, options.managed_by, calls
                )
            ]
            if not names and options.prefix:
                raise importer.no_pipeline_error(
                    hook, "--prefix", options.prefix, options.managed_by
                )
            for executions in calls.map(partial(_newest, hook, options, since), names):
                on_item("")
                found += map(_facts, executions)
    rows = sorted(found, key=lambda row: row["started_at"] or "", reverse=True)[
        : options.max_executions
    ]
    more = "; there are more: give --max-executions" if len(found) > len(rows) else ""
    output.write_message(f"{len(rows):,} executions of {len(names):,} pipelines{more}")
    return output.write(options, {"executions": rows}, map(_line, rows))


def _newest(
    hook: PolysyncSageMakerHook,
    options: argparse.Namespace,
    since: datetime | None,
    pipeline: str,
) -> list[ExecutionDescription]:
    """Return the newest executions of a pipeline, one more than are shown."""
    order: dict[str, Any] = {"newest_first": True, "through": lambda call: call()}
    newest = islice(
        hook.find_pipeline_executions(pipeline, created_after=since, **order),
        MAX_LOOKED_AT,
    )
    wanted = (
        seen for seen in newest if options.state in (None, states.state_of(seen.status))
    )
    try:
        return [*islice(wanted, options.max_executions + 1)]
    except exceptions.SageMakerApiError as error:
        if options.pipeline and exceptions.has_code(
            error, exceptions.RESOURCE_NOT_FOUND
        ):
            raise importer.no_pipeline_error(hook, "--pipeline", pipeline) from None
        raise


def _show(
    options: argparse.Namespace, hook: PolysyncSageMakerHook, seen: ExecutionDescription
) -> int:
    """
    Write an execution and its steps. What AWS refuses is left out, with a warning.
    """
    arn, end = seen.execution_arn, _waiter(seen).updated(seen).end_of(seen, 0)
    with output.airflow_in_use(options.conn_id):
        values = _optional({}, hook.list_pipeline_parameters_for_execution, arn)
        steps = _optional([], hook.list_pipeline_execution_steps, arn)
        declared = _optional([], hook.describe_pipeline_definition_for_execution, arn)
    report, run = (
        StepReport(rows_of(steps, declared, arn)),
        outcome.described(seen, parameters=values),
    )
    run = run.ended(end) if end else run
    facts = {"created_by": seen.created_by, **_facts(seen)}
    facts["console_url"] = console.execution_url(arn, run.pipeline_name)
    document = {**facts, **run.model_dump(mode="json", exclude_unset=True)}
    document["steps"] = [row.model_dump(mode="json") for row in report.rows]
    document["failed_steps"] = [row.name for row in report.failed]
    ended_at = run.ended_at and run.ended_at.isoformat(timespec="seconds")
    facts |= {"ended_at": ended_at, "parameters": json.dumps(values)}
    lines = [
        outcome.outcome_message(end)
        if end
        else f"Pipeline {run.pipeline_name}: {run.state}."
    ]
    lines += [
        f"{name.replace('_', ' ').capitalize()}: {value}"
        for name, value in facts.items()
        if value
    ]
    lines += [line for row in report.rows for line in outcome.step_lines(row)]
    return output.write(options, document, lines)


def _optional(default: Any, call: Callable[[str], Any], arn: str) -> Any:
    result = result_or_error(call, arn)
    if not isinstance(result, exceptions.PolysyncError):
        return result
    output.write_message(f"warning: {' '.join(str(result).split())}")
    return default


def _waiter(seen: ExecutionDescription) -> waiter.ExecutionWaiter:
    times: dict[str, Any] = {"since": clock.time(), "deadline": models.MAX_TIMESTAMP}
    arn, name = seen.execution_arn, models.pipeline_name_of(seen.execution_arn)
    return waiter.ExecutionWaiter(
        execution_arn=arn, pipeline_name=name, poll_interval=POLL_SECONDS, **times
    )


def _stop(
    options: argparse.Namespace, hook: PolysyncSageMakerHook, seen: ExecutionDescription
) -> int:
    status: str | None = seen.status
    facts = _facts(seen)
    if states.is_stoppable(seen.status):
        owner = facts["airflow_task"]
        text = output.COMMANDS["warnings"][
            "stop" if owner else "stop_of_nobody"
        ].format(owner)
        if options.yes:
            output.write_message(text)
        elif not output.confirms(options, text, f"Stop {seen.execution_arn}?"):
            return output.FAILED
        with output.airflow_in_use(options.conn_id):
            status = request_stop(hook, seen.execution_arn)
    result = stop_result(status)
    facts |= {
        "state": states.state_of(result.status).value,
        "status": result.status,
        "stop": result.text,
    }
    return output.write(options, facts, [f"{result.text} {seen.execution_arn}"])


def _watch(
    options: argparse.Namespace, hook: PolysyncSageMakerHook, seen: ExecutionDescription
) -> int:
    # With JSON, stdout has one document, at the end.
    stream = sys.stderr if options.output == "json" else sys.stdout
    arn, wait, progress = seen.execution_arn, _waiter(seen), Progress(0.0)
    response: ExecutionDescription | exceptions.PolysyncError = seen
    try:
        while True:
            step = wait.decide(response, clock.time())
            lines = [*step.log_lines]
            listed = list_steps_if_due(hook, arn, progress, response)
            if listed:
                lines += listed.log_lines
            for text in [text for line in lines for text in line.text.splitlines()]:
                print(f"{clock.now():%H:%M:%S} {text}", file=stream, flush=True)
            if isinstance(step, waiter.Finish):
                break
            wait = step.waiter
            clock.sleep(step.seconds)
            response = hook.poll_pipeline_execution(arn)
    except KeyboardInterrupt:
        output.write_message(f"The execution goes on: {arn}")
        raise
    if isinstance(response, exceptions.PolysyncError):
        raise response
    _show(options, hook, response)
    return (
        output.OK
        if states.state_of(response.status) is states.PolysyncState.SUCCESS
        else output.FAILED
    )
