"""Runs a command line, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from polysync_airflow.cli.jobs import check_command, diff_command, import_command
from polysync_airflow.cli.output import ERROR, INTERRUPTED, OK, write_error
from polysync_airflow.cli.parser import make_parser

COMMANDS: Final = {"import": import_command, "diff": diff_command, "check": check_command}
# The commands whose options are in their own modules: the module, whose ``main`` takes the arguments and the
# name of the command, and what it is for.
DELEGATED: Final = {
    "iam": ("polysync_airflow.cli.iam", "print IAM policies"),
    "events": ("polysync_airflow.cli.events", "set up the queue with events of SageMaker"),
    "records": ("polysync_airflow.cli.records", "list and delete records of past DAG runs"),
    "verify": ("polysync_airflow.cli.verify", "compare what is believed of AWS with an account"),
    "emulator": ("polysync_airflow.emulator.__main__", "run a local SageMaker endpoint"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    :param arguments: the arguments; None for those of the process.
    :return: the exit code: 0, 1 for a drift or a failed check, 2 for an error.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        write_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Python writes the rest at exit: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Exception as error:
        # The commands whose errors these are have imported Airflow by then, so this costs nothing.
        from polysync_airflow.airflow_compat.sdk import AirflowException

        if not isinstance(error, AirflowException):
            raise
        write_error(error)
        return ERROR


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in DELEGATED:
        command = importlib.import_module(DELEGATED[arguments[0]][0])
        return int(command.main(arguments[1:], prog=f"polysync {arguments[0]}"))
    parser = make_parser({name: purpose for name, (_, purpose) in DELEGATED.items()})
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return OK
    return COMMANDS[options.command](options)
