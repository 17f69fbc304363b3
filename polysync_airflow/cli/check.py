"""
The command ``polysync check``: it tests a connection as the button of the connection
form does.
"""

from __future__ import annotations

import argparse

from polysync_airflow.cli import output


def main(options: argparse.Namespace) -> int:
    """
    Test a connection, and return the exit code: 1 if the connection cannot be used.
    """
    with output.airflow_in_use():
        usable, report = output.hook(options).test_connection()
    lines = report.split(" -- ")
    output.write(options, {"usable": usable, "report": lines}, lines)
    return output.OK if usable else output.FAILED
