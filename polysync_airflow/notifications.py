"""
Messages about a failed task, for callbacks: their text, and a notifier that sends it by
any other one.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from copy import copy
from typing import Any

from airflow.providers.common.compat.sdk import BaseNotifier, Context

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.task_instances import pull_own
from polysync_airflow.execution import clock, console, outcome, texts, what_next
from polysync_airflow.links import CONSOLE_URL_XCOM_KEY, LOG_URL_XCOM_KEY

log = logging.getLogger(__name__)


class PolysyncFailureNotifier(BaseNotifier):
    """
    Sends the text of ``failure_text`` by another notifier, of any provider.

    For ``on_failure_callback`` and ``on_retry_callback`` of any task. The templates of
    the other notifier have the text as ``{{ failure_text }}``. It is a value there, so
    nothing in it is rendered.

    https://airflow.apache.org/docs/apache-airflow/stable/howto/notifications.html

    :param notifier: the notifier that sends the message.
    :param escape: whether to write ``&``, ``<`` and ``>`` as entities, as Slack and
        HTML require. False is for plain text, for example of SNS.
    :raises ParametersError: ``notifier`` is none.
    """

    def __init__(self, notifier: BaseNotifier, *, escape: bool = True) -> None:
        super().__init__()
        if not isinstance(notifier, BaseNotifier):
            raise exceptions.ParametersError(
                f"notifier = {texts.shorten(notifier)} is not valid: give a notifier. A"
                " function of yours can send failure_text(context)."
            )
        self.notifier = notifier
        self.escape = escape

    def notify(self, context: Context) -> None:
        """
        Send the message.

        :param context: what Airflow passes to the callback.
        """
        text = failure_text(context)
        if self.escape:
            text = html.escape(text, quote=False)
        values: Any = context
        values["failure_text"] = text
        # A notifier replaces its templates by what they render to, and the DAG
        # processor calls the same one for several tasks: the second call would render
        # the text of the first task.
        copy(self.notifier)(context)


def failure_text(context: Context) -> str:
    """
    Return a short text about a failed task: which task, what failed and why, what comes
    next, and links.

    For ``on_failure_callback`` and ``on_retry_callback`` of any task, also a mapped
    one. The text is plain: escape it for the format of the message. It quotes texts of
    others, so do not render it as a template.

    :param context: what Airflow passes to the callback.
    """
    ti: Any = context["ti"]
    run = pull_own(context, "run")
    summary = outcome.parse_run_summary(run, log.warning)
    lines = [_subject(ti), _verdict(_error_of(context), summary)]
    if summary:
        lines.extend(_failure_lines(summary))
    lines.extend(_what_next(ti, run))
    if summary:
        lines.extend(_links(summary, context))
    lines.append(f"Log of the task: {ti.log_url}")
    return "\n".join(lines)


def _error_of(context: Context) -> Any:
    error: Any = context.get("exception")
    cause = getattr(error, "__cause__", None)
    if isinstance(cause, exceptions.PolysyncError):
        # Before Airflow 3.3, an AirflowFailException is around permanent errors.
        return cause
    return error


def _subject(ti: Any) -> str:
    task = f"Task {ti.task_id}"
    if ti.map_index is not None and ti.map_index >= 0:
        task = f"{task} [{ti.map_index}]"
    verb = "has failed"
    if getattr(ti, "state", None) == "up_for_retry":
        verb = "has failed, and will be retried"
    try_and_run = f"try {ti.try_number}, run {texts.clean_line(ti.run_id)}"
    return f"{task} of DAG {ti.dag_id} {verb} ({try_and_run})."


def _verdict(error: Any, summary: outcome.RunSummary | None) -> str:
    if not error:
        return "Airflow names no error. The process of the task may have died."
    if isinstance(error, exceptions.PipelineExecutionError) and summary:
        # Its other lines are in the log of the task. The reasons and links are those of
        # the summary.
        return str(error).partition("\n")[0]
    text = texts.clean_value(str(error), 2 * texts.MAX_QUOTED)
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {text}"
    return text


def _failure_lines(summary: outcome.RunSummary) -> Iterator[str]:
    failed_steps = summary.failed_steps
    for step in failed_steps[: outcome.MAX_REASONS]:
        reason = texts.clean_line(step.reason or "AWS returned no reason")
        yield f"Step {texts.clean_line(step.name)}: {reason}"
    if len(failed_steps) > outcome.MAX_REASONS:
        yield f"{len(failed_steps) - outcome.MAX_REASONS} more steps have failed"
    if summary.message and not failed_steps:
        yield f"Reason: {texts.clean_line(summary.message)}"
    if summary.cost_text:
        label, text = summary.cost_text
        yield f"{label}: {texts.clean_line(text)}"


def _what_next(ti: Any, run: Any) -> Iterator[str]:
    """Yield what Airflow does next, if it says how the try has ended."""
    for state in ("failed", "up_for_retry"):
        # Airflow's is a member of an enumeration, whose text is its name.
        if getattr(ti, "state", None) == state:
            now = what_next.TaskNow(state, ti.try_number, ti.max_tries)
            sentences = what_next.what_comes_next(
                now, what_next.read_run(run), clock.now()
            )
            if sentences:
                yield f"Next: {what_next.as_line(sentences)}"


def _links(summary: outcome.RunSummary, context: Context) -> Iterator[str]:
    yield f"Execution: {_url(context, CONSOLE_URL_XCOM_KEY) or summary.execution_arn}"
    if summary.failed_steps:
        log_url = _url(context, LOG_URL_XCOM_KEY)
        if log_url:
            yield f"Log of the step: {log_url}"


def _url(context: Context, key: str) -> str | None:
    url: str | None = pull_own(context, key)
    # Others can edit XComs, and a person clicks the link.
    if not console.is_console_url(url):
        return None
    return url
