"""
The command ``polysync executions``: lists, shows, stops and watches them, and prints
the logs of their jobs, for whoever has no browser.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from polysync_airflow import states
from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.job_logs import JobLog, RunningJobLogs, log_of_step
from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.cli import output, stored_costs
from polysync_airflow.exceptions import (
    ACCESS_DENIED,
    RESOURCE_NOT_FOUND,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import (
    clock,
    console,
    models,
    outcome,
    parameters,
    texts,
    waiter,
)
from polysync_airflow.execution.lifecycle.instructions import TaskKey, owner_text
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.prices import CostAndUsage
from polysync_airflow.execution.steps.descriptions import (
    StepDescription,
    StepRow,
    log_url_of,
    rows_of,
)
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.get_provider_info import CONFIG_SECTION, HOURLY_PRICES
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import request_stop, result_or_error, stop_result
from polysync_airflow.hooks.spending import add_up_steps
from polysync_airflow.jobs import importer
from polysync_airflow.operators.results import StepReport, with_logs
from polysync_airflow.operators.task_run import list_steps_if_due
from polysync_airflow.states import PolysyncState

# The most executions of a pipeline that are listed. commands.toml says so.
MAX_LISTED: Final = 1000
POLL_SECONDS: Final = 10.0
# While AWS throttles a call, it is repeated for a minute.
PAUSE_SECONDS: Final = 5.0
ATTEMPTS: Final = 13
# CloudWatch Logs stores a line some seconds after the job wrote it.
LOG_DELAY_SECONDS: Final = 15.0
NOT_KNOWN: Final = "not known"
# ``<pipeline>/<id>``
_SHORT_NAME: Final = re.compile(rf"{models.PIPELINE_NAME_PATTERN}/[a-zA-Z0-9]+")
# The characters of a line. Airflow's ids have at most 250 characters each.
MAX_TEXT: Final = 2000


def main(args: Namespace) -> int:
    """Run the command, and return its exit code."""
    if args.command == "list":
        return _list(args)
    hook, execution = named_execution(args)
    match args.command:
        case "show":
            return _show(args, hook, execution)
        case "stop":
            return _stop(args, hook, execution)
        case "logs":
            return _logs(args, hook, execution.execution_arn)
        case _:
            return watch(args, hook, execution)


class _Hook(PolysyncSageMakerHook):
    """The hook for one execution, which calls again what AWS throttles."""

    def call(self, operation: str, **request: Any) -> Any:
        """Call a SageMaker operation."""
        text = f"AWS throttles {operation}: asking again in {PAUSE_SECONDS:.0f} s"
        retrying = Retrying(
            retry=retry_if_exception(is_throttling),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(PAUSE_SECONDS),
            before_sleep=lambda _: output.write_message(text),
            sleep=clock.sleep,
            reraise=True,
        )
        return retrying(super().call, operation, **request)


def named_execution(
    args: Namespace,
) -> tuple[PolysyncSageMakerHook, ExecutionDescription]:
    """Return the execution that the arguments name, with the hook for its region."""
    name = args.execution
    is_short = _SHORT_NAME.fullmatch(name)
    region = args.region
    if not is_short:
        if not parameters.is_valid(parameters.EXECUTION_ARN, name):
            raise ParametersError(
                f"{texts.shorten(name)} names no execution: give PIPELINE/ID, as"
                " `polysync executions list` writes it, or the ARN."
            )
        region = models.region_from_arn(name)
        if args.region not in (None, region):
            args.parser.error(
                f"--region {args.region}: the execution is in {region}, so leave it out"
            )
    hook = _Hook(args.conn_id, region, config=REPORT_CONFIG)
    with output.airflow_in_use(args.conn_id):
        arn = name
        if is_short:
            arn = _arn_of(hook, *name.split("/"))
        return hook, hook.describe_pipeline_execution(arn)


def _arn_of(hook: PolysyncSageMakerHook, pipeline: str, execution_id: str) -> str:
    executions = hook.find_pipeline_executions(
        pipeline, created_after=None, newest_first=True
    )
    try:
        newest = [each.execution_arn for each in islice(executions, PAGE_SIZE)]
    except SageMakerApiError as error:
        if has_code(error, RESOURCE_NOT_FOUND):
            raise importer.no_pipeline_error(hook, "execution", pipeline) from None
        raise
    ids = [arn.rpartition("/")[2] for arn in newest]
    if execution_id not in ids and len(ids) < PAGE_SIZE:
        listed = ", ".join(ids[: importer.MAX_NEAR]) or "none"
        raise ParametersError(
            f"{pipeline}/{execution_id}: the pipeline has no such execution in region"
            f" {hook.client_region}. The newest: {listed}."
        )
    # AWS has the name of the pipeline in lower case there.
    return f"{newest[0].rpartition('/')[0]}/{execution_id}"


def facts_of(execution: ExecutionDescription) -> dict[str, Any]:
    """Return what all commands write of an execution."""
    facts = {
        "started_at": output.in_seconds(execution.created_at),
        "state": states.state_of(execution.status).value,
        "status": execution.status,
        "execution_arn": execution.execution_arn,
        "display_name": execution.display_name,
        "airflow_task": owner_text(execution.display_name, execution.description),
    }
    described_task = TaskKey.in_description(execution.description)
    if described_task:
        task, page = described_task
        facts |= {**asdict(task), "airflow_page": page}
        name = f"{task_text(facts)}/{task.run_id}"
        facts["airflow_task"] = texts.clean_line(name, MAX_TEXT)
    return facts


def short_name(execution: ExecutionDescription) -> str:
    """Return the name of an execution, as the list writes it."""
    pipeline, _, execution_id = execution.execution_arn.split("/", 1)[1].rpartition(
        "/execution/"
    )
    return f"{pipeline}/{execution_id}"


def task_text(facts: Mapping[str, Any]) -> str:
    """Return the name of a task, without its run."""
    text = f"{facts['dag_id']}/{facts['task_id']}"
    if facts["map_index"] < 0:
        return text
    return f"{text}[{facts['map_index']}]"


# ---- list


def _list(args: Namespace) -> int:
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
            names = _pipelines(args, hook, calls)
            for newest in calls.map(partial(_newest, hook, args, since), names):
                on_item("")
                rows += newest
            rows.sort(key=lambda row: row["started_at"] or "", reverse=True)
            shown = rows[: args.max_executions]
            notes = [*calls.map(partial(_add_end, hook), shown)]
        _add_costs(hook, shown, args.costs)
    for note in dict.fromkeys(filter(None, notes)):
        output.write_message(f"warning: {note}")
    waiting = _waiting(args, {models.pipeline_name_of(name) for name in names})
    executions = output.counted(len(shown), "execution")
    pipelines = output.counted(len(names), "pipeline")
    summary = f"{executions} of {pipelines} in {hook.client_region}"
    if shown and not args.wide:
        summary += "; --wide adds their ARNs"
    if len(rows) > len(shown):
        summary += "; there are more: give --max-executions"
    output.write_message(summary)
    document = {"executions": shown, "waiting": waiting}
    lines = [*map(_waiting_line, waiting), *_table(args, shown)]
    return output.write(args, document, lines)


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
    hook: PolysyncSageMakerHook, args: Namespace, since: datetime | None, pipeline: str
) -> list[dict[str, Any]]:
    """Return the newest executions of a pipeline, one more than are shown."""
    newest = hook.find_pipeline_executions(
        pipeline, created_after=since, newest_first=True, through=lambda call: call()
    )
    matching = (
        facts
        for facts in map(facts_of, islice(newest, MAX_LISTED))
        if args.state in (None, facts["state"]) and _is_of_task(args, facts)
    )
    try:
        name = {"pipeline_name": models.pipeline_name_of(pipeline)}
        return [name | row for row in islice(matching, args.max_executions + 1)]
    except SageMakerApiError as error:
        if args.pipeline and has_code(error, RESOURCE_NOT_FOUND):
            raise importer.no_pipeline_error(hook, "--pipeline", pipeline) from None
        if not args.pipeline and has_code(error, ACCESS_DENIED):
            raise ParametersError(
                f"{error} Or list only what the identity may read: --prefix, --pipeline"
            ) from None
        raise


def _is_of_task(args: Namespace, facts: Mapping[str, Any]) -> bool:
    wanted = {"dag_id": args.dag, "task_id": args.task, "run_id": args.run}
    return all(facts.get(name) == value for name, value in wanted.items() if value)


def _add_end(hook: PolysyncSageMakerHook, row: dict[str, Any]) -> str | None:
    """
    Add to an execution when it ended, how long it took, and which steps failed; None in
    place of what AWS refuses to say. Return what that is, and why; None for nothing.
    """
    row |= {"ended_at": None, "seconds": None, "failed_steps": []}
    if row["state"] == PolysyncState.FAILED:
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
        if row["state"] == PolysyncState.FAILED:
            steps = hook.list_pipeline_execution_steps(arn, through=lambda call: call())
            row["failed_steps"] = [step.name for step in steps if _has_failed(step)]
    except PolysyncError as error:
        if error.transient:
            # It is called again.
            raise
        return f"{missing}: {NOT_KNOWN}, {_refusal_text(error)}"
    return None


def _has_failed(step: StepDescription) -> bool:
    return states.state_of_step(step.status) is PolysyncState.FAILED


def _add_costs(
    hook: PolysyncSageMakerHook, rows: Sequence[dict[str, Any]], count: int
) -> None:
    """Add to the newest executions that have ended what they have used and cost."""
    ended = [row for row in rows if states.has_ended(row["status"])]
    for row in ended[:count]:
        list_steps = hook.list_pipeline_execution_steps
        steps = _Answers().of("steps", list_steps, row["execution_arn"])
        added_up, _ = _add_up(hook, row, row["ended_at"], steps)
        if added_up:
            row.update(added_up.model_dump(mode="json"))


def _waiting(args: Namespace, pipelines: set[str]) -> list[dict[str, Any]]:
    """
    Return the tasks that wait for capacity, by their records, if Airflow's database can
    be used.
    """
    from polysync_airflow.watch.sweep import find_waiting

    if args.state is not None:
        return []
    with suppress(SQLAlchemyError):
        return [facts for facts in find_waiting(pipelines) if _is_of_task(args, facts)]
    return []


def _waiting_line(facts: dict[str, Any]) -> str:
    text = (
        "{since}  Waits for capacity, asks again at {asks_at}: {pipeline_name},"
        " task {dag_id}/{task_id}/{run_id}: {reason}"
    )
    return texts.clean_line(text.format(**facts))


def _table(args: Namespace, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return iter(())
    cells = [_cells(args, row) for row in rows]
    table = [[*cells[0]], *([*row.values()] for row in cells)]
    if args.wide:
        return output.table(table, cut=())
    return output.table(table, cut=("TASK", "RUN", "FAILED STEP", "COST"))


def _cells(args: Namespace, row: dict[str, Any]) -> dict[str, str]:
    """Return the cells of an execution, by the head of the table."""
    started_at = row["started_at"] or ""
    task = row["airflow_task"] or ""
    if "run_id" in row:
        task = task_text(row)
    execution = row["execution_arn"]
    if args.managed_by != "AWS" and not (args.pipeline or "").startswith("arn:"):
        # A name is that of a pipeline of the account.
        execution = f"{row['pipeline_name']}/{execution.rpartition('/')[2]}"
    cells = {
        "STATE": _state_text(row["status"]),
        "STARTED (UTC)": started_at[:19].replace("T", " "),
        "DURATION": _duration_text(row),
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
    return cells


def _state_text(status: str) -> str:
    """Return the state for people: the tab and the page say ``Stopping``, too."""
    if status == states.STATUS_STOPPING:
        return status
    return states.state_of(status)


def _duration_text(row: dict[str, Any]) -> str:
    seconds = row["seconds"]
    if not states.has_ended(row["status"]) and row["started_at"]:
        started_at = datetime.fromisoformat(row["started_at"])
        seconds = (clock.now() - started_at).total_seconds()
    if seconds is None:
        return NOT_KNOWN
    return texts.format_seconds(seconds)


# ---- show


class _Answers:
    """What AWS answers about an execution."""

    def __init__(self) -> None:
        # Why something is not known, by its name in the result.
        self.refusals: dict[str, str] = {}

    def of(self, name: str, call: Callable[[str], Any], arn: str) -> Any:
        """Return what a call returns; None, with a warning, if it fails."""
        answer = result_or_error(call, arn)
        if not isinstance(answer, PolysyncError):
            return answer
        output.write_message(f"warning: {texts.clean_line(str(answer), MAX_TEXT)}")
        self.refusals[name] = _refusal_text(answer)
        return None

    @property
    def lines(self) -> list[str]:
        """A line about each thing that is not known."""
        return [
            f"{name.replace('_', ' ').capitalize()}: {NOT_KNOWN}, {refusal}"
            for name, refusal in self.refusals.items()
        ]


def _refusal_text(error: PolysyncError) -> str:
    """Return why something is not known, in a few words."""
    if isinstance(error, SageMakerApiError):
        code = error.error_code.removesuffix("Exception")
        return f"{code}: sagemaker:{error.operation}"
    return texts.clean_line(str(error))


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
    arn = execution.execution_arn
    facts = facts_of(execution)
    ended_at = None
    if states.has_ended(execution.status):
        ended_at = output.in_seconds(execution.modified_at)
    answers = _Answers()
    with output.airflow_in_use(args.conn_id):
        values = answers.of(
            "parameters", hook.list_pipeline_parameters_for_execution, arn
        )
        declared = answers.of(
            "steps_not_begun", hook.describe_pipeline_definition_for_execution, arn
        )
        steps = answers.of("steps", hook.list_pipeline_execution_steps, arn)
        added_up, notes = _add_up(hook, facts, ended_at, steps)
        rows: list[StepRow] = []
        if steps is not None:
            rows = rows_of(steps, declared or [], arn)
            rows, note = with_logs(hook, rows, steps)
            if note:
                output.write_message(f"warning: {note}")
    step_report = StepReport(rows)

    run = outcome.described(execution, parameters=values)
    run = run.model_copy(update=step_report.run_members)
    state = _state_text(execution.status)
    lines = [f"Pipeline {run.pipeline_name}: {state} (AWS status {run.status})."]
    end = _waiter(execution).updated(execution).end_of(execution, 0)
    if end:
        run = run.ended(end)
        lines = [outcome.verdict_line(end)]
    run = run.with_cost(added_up, notes)
    if run.message:
        lines += outcome.reason_lines(run.message)
    lines += outcome.detail_lines(
        arn, run.pipeline_name, step_report.failed, answers.lines
    )
    facts["created_by"] = execution.created_by
    facts["console_url"] = console.execution_url(arn, run.pipeline_name)
    document = {**facts, **run.model_dump(mode="json", exclude_unset=True)}
    document["steps"] = [row.model_dump(mode="json") for row in rows]
    document["failed_steps"] = [row.name for row in step_report.failed]
    document["not_known"] = answers.refusals
    for name in document.keys() & answers.refusals.keys():
        document[name] = None
    if steps is None:
        document["failed_steps"] = None
    return _Report(
        document,
        lines,
        [*_fact_lines(facts, run, values), *_step_table(step_report)],
        is_complete=not answers.refusals,
    )


def _fact_lines(
    facts: Mapping[str, Any], run: outcome.RunSummary, values: Mapping[str, str] | None
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
        "Created by": facts["created_by"],
    }
    if run.billable_seconds is not None:
        billable_time = texts.format_seconds(run.billable_seconds)
        texts_by_label["Billable time"] = billable_time
    if run.spending:
        texts_by_label["Spent"] = run.spending.text
    elif run.cost:
        texts_by_label["Estimated cost"] = run.cost.text
    if run.spending or run.cost:
        texts_by_label["Costs as of"] = output.in_seconds(run.added_up_at)
    for label, text in texts_by_label.items():
        if text:
            yield f"{label}: {texts.clean_line(text, MAX_TEXT)}"
    if values is not None:
        yield f"Parameters: {json.dumps(values)}"


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
            yield texts.clean_line(f"Step {row.name} failed: {row.reason}", MAX_TEXT)


def _add_up(
    hook: PolysyncSageMakerHook,
    facts: Mapping[str, Any],
    ended_at: str | None,
    steps: Sequence[StepDescription] | None,
) -> tuple[CostAndUsage | None, Sequence[str]]:
    """
    Return what an execution has used and cost, and sentences about what is missing. The
    XComs of its task say it if a process has added up. Warn of what is missing.

    :param steps: the steps of the execution; None if AWS does not list them.
    """
    stored = stored_costs.stored_run(facts, ended_at)
    if stored:
        return stored.cost_and_usage, [*filter(None, [stored.steps_note])]
    if steps is None:
        return None, ()
    warn = logging.getLogger(__name__).debug
    basis = stored_costs.stored_basis(facts)
    added_up, notes = add_up_steps(hook, steps, basis, warn)
    for note in notes:
        output.write_message(f"warning: {note}")
    return added_up, notes


# ---- stop, watch and logs


def _waiter(execution: ExecutionDescription) -> waiter.ExecutionWaiter:
    return waiter.ExecutionWaiter(
        execution_arn=execution.execution_arn,
        cost_limit=None,
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
    facts = facts_of(execution)
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
    if states.state_of(execution.status) is PolysyncState.SUCCESS:
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
    url = log_url_of(step, arn)
    output.write(args, {"step": step.name, "log_url": url, "lines": lines}, lines)
    while args.follow and not states.has_ended(step.status):
        clock.sleep(POLL_SECONDS)
        with output.airflow_in_use(args.conn_id):
            step = _steps_by_name(hook, arn)[args.step]
            current = log_of_step(step, hook.call_logs)
            if current and current.stream_prefix != log.stream_prefix:
                # By its retry policy, the step has another job.
                log = current
        if states.has_ended(step.status):
            clock.sleep(LOG_DELAY_SECONDS)
        lines = log.read_on()
        output.write(args, {}, lines)
    return output.OK


def _step_with_log(
    args: Namespace, hook: PolysyncSageMakerHook, arn: str
) -> tuple[StepDescription, JobLog]:
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


def _steps_by_name(hook: PolysyncSageMakerHook, arn: str) -> dict[str, StepDescription]:
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
        with output.airflow_in_use(args.conn_id):
            execution = hook.describe_pipeline_execution(arn)
            has_ended = states.has_ended(execution.status)
            if has_ended:
                clock.sleep(LOG_DELAY_SECONDS)
            logs.read(hook.list_pipeline_execution_steps(arn), is_last=has_ended)
        output.write(args, {}, lines)
        lines.clear()
        if not has_ended:
            clock.sleep(POLL_SECONDS)
    return output.OK
