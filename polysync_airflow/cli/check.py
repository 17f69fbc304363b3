"""
The command ``polysync check``: it tests a connection as the button of the connection
form does, and shows what identifies this deployment of Airflow.
"""

from __future__ import annotations

import argparse

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.teams import is_multi_team
from polysync_airflow.cli import output
from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records import deployment_of_database


def main(args: argparse.Namespace) -> int:
    """
    Test a connection, and return the exit code: 1 if the connection cannot be used.
    """
    with output.airflow_in_use(args.conn_id):
        is_usable, report = output.hook(args).test_connection()
        deployment, line = _deployment()
    lines = report.split(" -- ")
    document = {"usable": is_usable, "report": lines, "deployment": deployment}
    output.write(args, document, [*lines, f"Deployment: {line}"])
    if not is_usable:
        return output.FAILED
    return output.OK


def _deployment() -> tuple[str | None, str]:
    """Return the identity of this deployment, if it has one, and a line about it."""
    try:
        identity = deployment_of_database()
    except SQLAlchemyError as error:
        reason = clean_line(str(getattr(error, "orig", None) or error))
        return None, f"not known, since Airflow's database cannot be used: {reason}"
    if identity is not None:
        return identity, identity
    if is_multi_team():
        return None, f"each team has its own, in a Variable {DEPLOYMENT_KEY}.<team>"
    return None, "none yet; the first task that starts an execution identifies it"
