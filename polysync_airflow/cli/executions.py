"""
The command ``polysync executions``: shows, stops and watches them, and prints the logs
of their jobs, for whoever has no browser.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from polysync_airflow import states
from polysync_airflow.aws.job_logs import JobLog, RunningJobLogs, log_of_step
from polysync_airflow.cli import execution_facts, execution_list, output, stored_tasks
from polysync_airflow.cli.stored_runs import (
    NOTHING_STORED,
    StoredRun,
    add_up_cost,
    duration_text,
    read_stored_run,
)
from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import clock, console, models, outcome, texts, waiter
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import request_stop, result_or_error, stop_result
from polysync_airflow.operators.results import StepReport, with_logs
from polysync_airflow.operators.task_run import list_steps_if_due

POLL_SECONDS: Final = 10.0
# CloudWatch Logs stores a line some seconds after the job wrote it.
LOG_DELAY_SECONDS: Final = 15.0
# AWS returns at most 1 MB of new lines at once.
MAX_READS: Final = 100
Value = TypeVar("Value")


def main(args: Namespace) -> int:
    """Run the command, and return its exit code."""
    if args.command == "list":
        return execution_list.list_executions(args)
    hook, execution = execution_facts.named_execution(args)
    match args.command:
        case "show":
            return _show(args, hook, execution)
        case "stop":
            return _stop(args, hook, execution)
        case "logs":
            return _logs(args, hook, execution.execution_arn)
        case _:
            return watch(args, hook, execution)


# ---- show


@dataclass
class _Report:
    """
    What is known of an execution.

    :param document: the whole report, as JSON.
    :param outcome: lines that say how the execution has ended and why.
    :param facts: lines with everything else.
    :param is_complete: whether AWS has answered all that was asked.
    """

    document: dict[str, Any]
    outcome: list[str]
    facts: list[str]
    is_complete: bool


def _show(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    """Write an execution and its steps."""
    report = read_report(args, hook, execution)
    output.write(args, report.document, [*report.outcome, *report.facts])
    if report.is_complete:
        return output.OK
    return output.ERROR


def read_report(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> _Report:
    """Return what AWS and Airflow say of an execution."""
    report = _read(args, hook, execution)
    wait = None
    if report.document["state"] == states.PolysyncState.FAILED:
        wait = stored_tasks.wait_of(execution.execution_arn)
    if wait:
        report.document |= {"state": stored_tasks.WAITING, "waiting": wait}
        report.outcome.insert(0, stored_tasks.waiting_line(wait))
    return report


def _read(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> _Report:
    arn = execution.execution_arn
    facts = execution_facts.facts_of(execution)
    stored = read_stored_run(facts)
    ended_at = None
    if states.has_ended(execution.status):
        ended_at = output.in_seconds(execution.modified_at)
    answers = execution_facts.Answers()
    with output.airflow_in_use(args.conn_id):
        values = answers.of(
            "parameters", hook.list_pipeline_parameters_for_execution, arn
        )
        declared = answers.of(
            "steps_not_begun", hook.describe_pipeline_definition_for_execution, arn
        )
        steps = answers.of("steps", hook.list_pipeline_execution_steps, arn)
        added_up, notes = add_up_cost(hook, facts, ended_at, steps)
        rows: list[descriptions.StepRow] = []
        if steps is not None:
            rows = descriptions.rows_of(steps, declared or [], arn)
            rows, note = with_logs(hook, rows, steps)
            if note:
                output.write_message(f"warning: {note}")
    step_report = StepReport(rows)

    run = outcome.described(execution, parameters=values).model_copy(
        update={
            **step_report.run_members,
            "resumes": stored.resumes,
            "attempt_started_at": stored.resumed_at,
            "stop": stored.run and stored.run.stop,
        }
    )
    end = _waiter(execution, stored).updated(execution).end_of(execution, 0)
    if end:
        run = run.ended(end)
    run = run.with_cost(added_up, notes)
    lines = [
        *_outcome_lines(execution, run, end),
        *outcome.detail_lines(
            arn, run.pipeline_name, step_report.failed, answers.lines
        ),
    ]
    if stored.line:
        lines.append(f"Next: {stored.line}")
    facts["next"] = stored.as_json
    facts["created_by"] = execution.created_by
    facts["console_url"] = console.execution_url(arn, run.pipeline_name)
    document = {**facts, **run.model_dump(mode="json", exclude_unset=True)}
    document["steps"] = [row.model_dump(mode="json") for row in rows]
    document["failed_steps"] = [row.name for row in step_report.failed]
    _mark_not_known(document, answers, stored)
    return _Report(
        document,
        lines,
        [*_fact_lines(facts, run, values, stored), *_step_table(step_report)],
        is_complete=not answers.refusals,
    )


def _mark_not_known(
    document: dict[str, Any], answers: execution_facts.Answers, stored: StoredRun
) -> None:
    """Add what is not known, and why, and let it have no value."""
    document["not_known"] = {**answers.refusals}
    if stored.problem:
        document["not_known"]["next"] = stored.problem
    for name in document.keys() & answers.refusals.keys():
        document[name] = None
    if document["steps"] is None:
        document["failed_steps"] = None


def _outcome_lines(
    execution: ExecutionDescription,
    run: outcome.RunSummary,
    end: waiter.ExecutionEvent | None,
) -> Iterator[str]:
    """Yield how an execution has ended and why, or its state."""
    if end:
        yield outcome.verdict_line(end)
    else:
        state = execution_facts.state_text(execution.status)
        yield f"Pipeline {run.pipeline_name}: {state} (AWS status {run.status})."
    if run.message:
        yield from outcome.reason_lines(run.message)


def _fact_lines(
    facts: Mapping[str, Any],
    run: outcome.RunSummary,
    values: Mapping[str, str] | None,
    stored: StoredRun,
) -> Iterator[str]:
    """Yield what the lines about the outcome do not say."""
    page = facts.get("airflow_page", "")
    if not page.startswith("http"):
        # Airflow's address is not configured, and a path leads nowhere.
        page = ""
    texts_by_label = {
        "Airflow task": facts["airflow_task"],
        "Airflow page": page,
        "Display name": facts["display_name"],
        "Started at": facts["started_at"],
        "Ended at": output.in_seconds(run.ended_at),
        "Duration": _duration_text(run, stored),
        "Resumed": _resumes_text(stored),
        "Stop": run.stop and run.stop.text,
        "Next": stored.problem and f"{execution_facts.NOT_KNOWN}: {stored.problem}",
        "Created by": facts["created_by"],
    }
    if run.billable_seconds is not None:
        billable_time = texts.format_seconds(run.billable_seconds)
        texts_by_label["Billable time"] = billable_time
    if run.cost_text:
        label, text = run.cost_text
        texts_by_label[label] = text
        texts_by_label["Costs as of"] = output.in_seconds(run.added_up_at)
    for label, text in texts_by_label.items():
        if text:
            yield f"{label}: {texts.clean_line(text, execution_facts.MAX_TEXT)}"
    if values is not None:
        yield f"Parameters: {json.dumps(values)}"


def _duration_text(run: outcome.RunSummary, stored: StoredRun) -> str:
    if run.started_at is None:
        return ""
    seconds = run.seconds
    if seconds is None:
        seconds = (clock.now() - run.started_at).total_seconds()
    return duration_text(seconds, run.attempt_seconds, stored)


def _resumes_text(stored: StoredRun) -> str:
    if stored.resumed_at is None:
        return ""
    times = "once" if stored.resumes == 1 else f"{stored.resumes} times"
    return f"{times}, last at {output.in_seconds(stored.resumed_at)}"


def _step_table(report: StepReport) -> Iterator[str]:
    rows = [("STEP", "STATE", "DURATION", "JOB")]
    for row in report.rows:
        duration = ""
        seconds = row.seconds
        if seconds is None and row.started_at:
            seconds = (clock.now() - row.started_at).total_seconds()
        if seconds is not None:
            duration = texts.format_seconds(seconds)
        rows.append((row.name, row.state, duration, row.job_name or ""))
    if len(rows) > 1:
        yield from output.table(rows, cut=("STEP", "JOB"))
    # The lines about the outcome have the reasons of the others.
    for row in report.failed[outcome.MAX_REASONS :]:
        if row.reason:
            yield texts.clean_line(
                f"Step {row.name} failed: {row.reason}", execution_facts.MAX_TEXT
            )


# ---- stop, watch and logs


def _waiter(
    execution: ExecutionDescription, stored: StoredRun = NOTHING_STORED
) -> waiter.ExecutionWaiter:
    since = clock.time()
    attempt = 0
    if stored.resumed_at:
        since = stored.resumed_at.timestamp()
        attempt = stored.resumes
    return waiter.ExecutionWaiter(
        execution_arn=execution.execution_arn,
        cost_limit=None,
        pipeline_name=models.pipeline_name_of(execution.execution_arn),
        poll_interval=POLL_SECONDS,
        since=since,
        deadline=models.MAX_TIMESTAMP,
        attempt=attempt,
    )


def _stop(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    arn = execution.execution_arn
    status: str | None = execution.status
    facts = execution_facts.facts_of(execution)
    if states.is_stoppable(execution.status):
        warnings = output.COMMANDS["warnings"]
        warning = warnings["stop_of_nobody"]
        if facts["airflow_task"]:
            warning = warnings["stop"].format(facts["airflow_task"])
        if not output.confirms(args, warning, f"Stop {arn}?"):
            return output.FAILED
        with output.airflow_in_use(args.conn_id):
            status = request_stop(hook, arn)
    result = stop_result(status)
    facts["state"] = states.state_of(result.status).value
    facts["status"] = result.status
    facts["stop"] = result.text
    return output.write(args, facts, [f"{result.text} {arn}"])


def watch(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    """Write what changes until an execution ends, and return the exit code."""
    try:
        ended = follow(args, hook, execution)
    except KeyboardInterrupt:
        output.write_message(f"The execution goes on: {execution.execution_arn}")
        raise
    return write_end(args, hook, ended)


def follow(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> ExecutionDescription:
    """
    Write the changes of an execution and of its steps until it ends. Return how it has
    ended.
    """
    arn = execution.execution_arn
    wait = _waiter(execution)
    progress = Progress(0.0)
    response: ExecutionDescription | PolysyncError = execution
    while True:
        result = wait.decide(response, clock.time())
        lines = [*result.log_lines]
        listed = list_steps_if_due(hook, wait, progress, response)
        if listed:
            lines += listed.log_lines
        for line in lines:
            write_change(args, line.text)
        if isinstance(result, waiter.Finish):
            break
        wait = result.waiter
        clock.sleep(result.seconds)
        response = hook.poll_pipeline_execution(arn)
    if isinstance(response, PolysyncError):
        raise response
    return response


def write_change(args: Namespace, text: str) -> None:
    """Write what has changed, with the time."""
    stream = sys.stdout
    if args.output == "json":
        # There, stdout has one document, at the end.
        stream = sys.stderr
    for line in text.splitlines():
        print(f"{clock.now():%H:%M:%S} {line}", file=stream, flush=True)


def write_end(
    args: Namespace,
    hook: PolysyncSageMakerHook,
    execution: ExecutionDescription,
    **facts: Any,
) -> int:
    """
    Write how an execution has ended, and return the exit code.

    :param facts: what the JSON has beside it.
    """
    report = read_report(args, hook, execution)
    output.write(args, report.document | facts, report.outcome)
    if states.state_of(execution.status) is states.PolysyncState.SUCCESS:
        return output.OK
    return output.FAILED


def _logs(args: Namespace, hook: PolysyncSageMakerHook, arn: str) -> int:
    if args.follow and args.output == "json":
        args.parser.error("--follow writes text: leave --output json out")
    if args.step is None:
        if not args.follow:
            args.parser.error("name a STEP, or give --follow for all running jobs")
        return _follow_jobs(args, hook, arn)
    step, log = _step_with_log(args, hook, arn)
    with output.airflow_in_use(args.conn_id):
        lines = log.read_tail(args.lines, until=step.ended_at)
    if not lines:
        output.write_message(f"The log of step {step.name} has no lines.")
    url = descriptions.log_url_of(step, arn)
    output.write(args, {"step": step.name, "log_url": url, "lines": lines}, lines)
    if args.follow:
        _follow_step(args, hook, arn, step, log)
    return output.OK


def _follow_step(
    args: Namespace,
    hook: PolysyncSageMakerHook,
    arn: str,
    step: descriptions.StepDescription,
    log: JobLog,
) -> None:
    """Write the new lines of a step's job until the step has ended."""
    while not states.has_ended(step.status):
        clock.sleep(POLL_SECONDS)
        steps = _read_or_warn(args, partial(_steps_by_name, hook, arn))
        if steps is None:
            continue
        step = steps[args.step]
        if states.has_ended(step.status):
            clock.sleep(LOG_DELAY_SECONDS)
        _write_new_lines(args, log)
        current = log_of_step(step, hook.call_logs)
        if current and current.stream_prefix != log.stream_prefix:
            # By its retry policy, the step has another job.
            log = current
            _write_new_lines(args, log)


def _write_new_lines(args: Namespace, log: JobLog) -> None:
    """Write all lines that are there. A call of AWS returns only some of many."""
    for _ in range(MAX_READS):
        lines = _read_or_warn(args, log.read_on)
        if not lines:
            break
        output.write(args, {}, lines)


def _read_or_warn(args: Namespace, read: Callable[[], Value]) -> Value | None:
    """
    Return what a function reads from AWS. If AWS cannot answer now, write a warning,
    and return None: it is asked again with the next poll.
    """
    try:
        with output.airflow_in_use(args.conn_id):
            return read()
    except PolysyncError as error:
        if not error.transient:
            raise
        output.write_message(f"warning: {error}")
        return None


def _step_with_log(
    args: Namespace, hook: PolysyncSageMakerHook, arn: str
) -> tuple[descriptions.StepDescription, JobLog]:
    """
    Return a step and the log of its job. With ``--follow``, wait until there is one.

    :raises ParametersError: there is none, or the execution has no such step.
    """
    is_awaited = False
    while True:
        with output.airflow_in_use(args.conn_id):
            execution = hook.describe_pipeline_execution(arn)
            steps = _steps_by_name(hook, arn)
            problem = _why_no_step(hook, arn, args.step, steps)
            step = steps.get(args.step)
            if step:
                log = log_of_step(step, hook.call_logs)
                if log:
                    return step, log
                problem = (
                    f"Step {step.name} has no job yet, or one that writes no log to"
                    " CloudWatch Logs."
                )
        is_over = states.has_ended(step.status if step else execution.status)
        if is_over or not args.follow:
            raise ParametersError(problem)
        if not is_awaited:
            output.write_message(problem)
            is_awaited = True
        clock.sleep(POLL_SECONDS)


def _steps_by_name(
    hook: PolysyncSageMakerHook, arn: str
) -> dict[str, descriptions.StepDescription]:
    return {step.name: step for step in hook.list_pipeline_execution_steps(arn)}


def _why_no_step(
    hook: PolysyncSageMakerHook, arn: str, name: str, begun: Collection[str]
) -> str:
    """
    Return that a step has not begun.

    :raises ParametersError: the execution has no such step.
    """
    if name in begun:
        return ""
    names = ", ".join(sorted(begun)) or "none"
    declared = result_or_error(hook.describe_pipeline_definition_for_execution, arn)
    if isinstance(declared, PolysyncError):
        declared = []
    all_names = {*begun, *(step.name for step in declared)}
    if name in all_names:
        return f"Step {name} has not begun. Steps that have begun: {names}."
    cure = texts.did_you_mean(name, all_names) or f" Steps that have begun: {names}."
    raise ParametersError(
        f"{texts.shorten(name)}: no such step of the execution has begun.{cure}"
    )


def _follow_jobs(args: Namespace, hook: PolysyncSageMakerHook, arn: str) -> int:
    """Write the new lines of all running jobs until the execution ends."""
    lines: list[str] = []
    logs = RunningJobLogs(hook.call_logs, lambda *line: lines.append(line[2]))
    has_ended = False
    while not has_ended:
        execution = _read_or_warn(args, partial(hook.describe_pipeline_execution, arn))
        if execution:
            has_ended = states.has_ended(execution.status)
        if has_ended:
            clock.sleep(LOG_DELAY_SECONDS)
        steps = _read_or_warn(args, partial(hook.list_pipeline_execution_steps, arn))
        if steps:
            logs.read(steps, is_last=has_ended)
        output.write(args, {}, lines)
        lines.clear()
        if not has_ended:
            clock.sleep(POLL_SECONDS)
    return output.OK
