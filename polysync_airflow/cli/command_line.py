"""Runs a command line, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
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
}
# The commands of sagemaker-pipelines-emulator, which registers the same ``main`` of each as an entry point.
ENTRY_POINTS: Final = "polysync.commands"
OF_THE_EMULATOR: Final = {
    "verify": "compare what is believed of AWS with an account",
    "emulator": "run a local SageMaker endpoint",
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
        from airflow.providers.common.compat.sdk import AirflowException

        if not isinstance(error, AirflowException):
            raise
        write_error(error)
        return ERROR


def _run(arguments: Sequence[str]) -> int:
    delegated = {name: purpose for name, (_, purpose) in DELEGATED.items()} | OF_THE_EMULATOR
    if arguments and arguments[0] in delegated:
        command = _find(arguments[0])
        return command(arguments[1:], prog=f"polysync {arguments[0]}") if command else ERROR
    parser = make_parser(delegated)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return OK
    return COMMANDS[options.command](options)


def _find(name: str) -> Callable[..., int] | None:
    """Return the ``main`` of a command, or None, after an error, if its distribution is not installed."""
    main: Callable[..., int] | None = None
    if name in DELEGATED:
        main = importlib.import_module(DELEGATED[name][0]).main
    elif found := importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        main = found[name].load()
    else:
        write_error(
            f"polysync {name} is a command of sagemaker-pipelines-emulator, which is not installed. "
            "Install it with: pip install 'polysync-airflow[emulator]'"
        )
    return main
