"""
The command ``polysync check``: it tests a connection as the button of the connection
form does, and shows what identifies this deployment of Airflow, and how full its
triggerers are.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import database, teams, triggerers
from polysync_airflow.cli import output
from polysync_airflow.deployment import (
    DEPLOYMENT_KEY,
    configured_triggerers,
    deployment_of_database,
)
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records.database import imported_records
from polysync_airflow.watch.listeners import CALLBACK

# A triggerer with free slots takes a new trigger within seconds.
LONG_SECONDS: Final = 60.0
NEARLY_FULL: Final = 0.9
# With more, Airflow's supervisor may not keep up with the messages of its triggers:
# each takes a pass of its loop, whose time grows with the triggers. With so many, it
# does in the benchmark of real triggerers.
MOST_TRIGGERS: Final = 3000
_IMPORTED: Final = (
    "{count} records are of tasks that have never begun in this database, the first one"
    " is the Variable {key}. If Variables were imported, set [polysync_sagemaker]"
    " deployment, and delete these: their executions are those of another deployment."
)
_MORE: Final = "raise [triggerer] capacity, or start another triggerer"


def main(args: argparse.Namespace) -> int:
    """
    Test a connection, and return the exit code: 1 if the connection cannot be used.
    """
    with output.airflow_in_use(args.conn_id):
        is_usable, report = output.hook(args).test_connection()
        deployment, doubts, line = _deployment()
        slots, slots_line = _triggerers()
    lines = report.split(" -- ")
    document = {
        "usable": is_usable,
        "report": lines,
        "deployment": deployment,
        "deployment_warnings": doubts,
        "triggerers": slots,
    }
    texts = [*lines, f"Triggerers: {slots_line}", f"Deployment: {line}"]
    texts += [f"WARNING: {doubt}" for doubt in doubts]
    output.write(args, document, texts)
    if not is_usable:
        return output.FAILED
    return output.OK


def _deployment() -> tuple[str | None, list[str], str]:
    """
    Return the identity of this deployment, if it has one, why it may be taken for
    another one, and a line about it.
    """
    try:
        identity, doubt = deployment_of_database()
        imported = imported_records()
    except SQLAlchemyError as error:
        return None, [], _no_database(error)
    doubts = [doubt] if doubt else []
    if imported:
        doubts.append(
            _IMPORTED.format(count=len(imported), key=clean_line(imported[0]))
        )
    if identity is not None:
        return identity, doubts, identity
    if teams.is_multi_team():
        line = f"each team has its own, in a Variable {DEPLOYMENT_KEY}.<team>"
        return None, doubts, line
    line = "none yet; the first task that starts an execution identifies it"
    return None, doubts, line


def _no_database(error: SQLAlchemyError) -> str:
    reason = clean_line(str(getattr(error, "orig", None) or error))
    return f"not known, since Airflow's database cannot be used: {reason}"


def _triggerers() -> tuple[dict[str, Any] | None, str]:
    """Return how full the triggerers are, and a line about it."""
    try:
        slots = database.slots_of_triggerers(CALLBACK)
    except SQLAlchemyError as error:
        return None, _no_database(error)
    warnings = (warning_about(slots), warning_about_share(slots.triggerers))
    warning = ". ".join(text for text in warnings if text) or None
    document = {**slots._asdict(), "warning": warning}
    line = (
        f"{slots.triggerers}, with {slots.running} of at most {slots.capacity}"
        f" triggers; {slots.waiting} have no triggerer"
    )
    if warning:
        line = f"{line}. {warning}"
    return document, line


def warning_about(slots: triggerers.Slots) -> str | None:
    """
    Return what is wrong with the triggerers, and the cure; None if nothing is.

    A trigger whose queue or team no triggerer has waits, too.
    """
    if slots.waiting and not slots.triggerers:
        return "WARNING: no triggerer runs, so nobody polls for deferred tasks"
    if slots.waiting and slots.seconds > LONG_SECONDS:
        stops = ""
        if slots.waiting_calls:
            stops = f" {slots.waiting_calls} executions may run whose task has ended."
        return (
            f"WARNING: a trigger has waited for a triggerer for {slots.seconds:.0f} s."
            f" Nobody polls for such a task, or keeps its max_cost.{stops} Is there a"
            f" triggerer of its queue and team? Otherwise {_MORE}"
        )
    if slots.taken > NEARLY_FULL:
        of_queue = ""
        if slots.queue:
            of_queue = f" for triggers of queue {clean_line(slots.queue)}"
        return (
            f"WARNING: {slots.taken:.0%} of the slots{of_queue} are taken. If all are,"
            f" nobody polls for a new deferred task, or keeps its max_cost: {_MORE}"
        )
    if slots.most > MOST_TRIGGERS:
        return (
            f"WARNING: a triggerer runs {slots.most} triggers. With more than"
            f" {MOST_TRIGGERS}, it may fall behind, so that ends, XComs and log lines"
            " come late, see the metric polysync.airflow_response_time: start another"
            " triggerer, and lower [triggerer] capacity"
        )
    return None


def warning_about_share(running: int) -> str | None:
    """
    Return why the triggerers do not share the rates that all of them have together;
    None if they do.

    :param running: how many triggerers run.
    """
    try:
        configured = configured_triggerers()
    except PolysyncError as error:
        return f"WARNING: {error}"
    if running in (0, configured):
        return None
    effect = "list steps and read logs of jobs later than they could"
    if running > configured:
        effect = "list steps and read logs of jobs more often than they should"
    return (
        f"WARNING: {running} triggerers run, and [polysync_sagemaker] triggerers is"
        f" {configured}, so they {effect}: set it to {running} for each of them"
    )
