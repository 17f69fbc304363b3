"""
The text of a message about a failed task, for callbacks that send it by chat or e-mail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.exceptions import PipelineExecutionError, PolysyncError
from polysync_airflow.execution.console import is_console_url
from polysync_airflow.execution.outcome import MAX_REASONS, RunSummary
from polysync_airflow.execution.texts import MAX_QUOTED, clean_line, clean_value
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, LOG_URL_XCOM_KEY
from polysync_airflow.operators.base import pull_own
from polysync_airflow.operators.reporting import pull_run_summary


def failure_text(context: Context) -> str:
    """
    Return a short text about a failed task: which task, what failed and why, and links.

    For ``on_failure_callback`` and ``on_retry_callback`` of any task, also a mapped
    one. The text is plain: escape it for the format of the message. It quotes texts of
    others, so do not render it as a template.

    :param context: what Airflow passes to the callback.
    """
    ti: Any = context["ti"]
    error, run = _error_of(context), pull_run_summary(context)
    lines = [_subject(ti), *_verdict(error, run)]
    if run:
        lines.extend(_execution(run, context))
    return "\n".join([*lines, f"Log of the task: {ti.log_url}"])


def _error_of(context: Context) -> Any:
    error: Any = context.get("exception")
    cause = getattr(error, "__cause__", None)
    # Before Airflow 3.3, an AirflowFailException is around permanent errors.
    return cause if isinstance(cause, PolysyncError) else error


def _subject(ti: Any) -> str:
    index = (
        f" [{ti.map_index}]" if ti.map_index is not None and ti.map_index >= 0 else ""
    )
    retried = (
        ", and will be retried" if getattr(ti, "state", None) == "up_for_retry" else ""
    )
    subject = f"Task {ti.task_id}{index} of DAG {ti.dag_id} has failed{retried}"
    return f"{subject} (try {ti.try_number}, run {clean_line(ti.run_id)})."


def _verdict(error: Any, run: RunSummary | None) -> Iterator[str]:
    if isinstance(error, PipelineExecutionError) and run:
        # Its other lines are in the log of the task. The reasons and links are those of
        # the record.
        yield str(error).partition("\n")[0]
    elif error:
        name = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
        yield name + clean_value(str(error), 2 * MAX_QUOTED)
    else:
        yield "Airflow names no error. The process of the task may have died."


def _execution(run: RunSummary, context: Context) -> Iterator[str]:
    for step in run.failed_steps[:MAX_REASONS]:
        yield (
            f"Step {clean_line(step.name)}:"
            f" {clean_line(step.reason or 'AWS returned no reason')}"
        )
    if more := run.failed_steps[MAX_REASONS:]:
        yield f"{len(more)} more steps have failed"
    if run.message and not run.failed_steps:
        yield f"Reason: {clean_line(run.message)}"
    yield f"Execution: {_url(context, CONSOLE_URL_XCOM_KEY) or run.execution_arn}"
    if run.failed_steps and (log_url := _url(context, LOG_URL_XCOM_KEY)):
        yield f"Log of the step: {log_url}"


def _url(context: Context, key: str) -> str | None:
    url = pull_own(context, key)
    # Others can edit XComs, and a person clicks the link.
    return url if is_console_url(url) else None
