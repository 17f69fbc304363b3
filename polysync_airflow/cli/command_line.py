"""
Runs a command line: finds the module of a command, and turns errors into exit codes.
"""

from __future__ import annotations

import argparse
import errno
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Final

import argcomplete

from polysync_airflow.cli import output

# The commands that sagemaker-pipelines-emulator registers as entry points.
ELSEWHERE: Final = {
    name
    for name, command in output.COMMANDS["polysync"]["commands"].items()
    if command.get("in") == "emulator"
}
ENTRY_POINTS: Final = "polysync.commands"
# A disk that is full, or its quota.
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    :param arguments: the arguments; None for those of the process.
    :return: the exit code: 0, 1 for a drift, a failed check or a failed execution, 2
        for an error.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        output.write_error("interrupted")
        return output.INTERRUPTED
    except BrokenPipeError:
        # Python writes the rest at exit:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.ERROR
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        # What the command has done, such as stops, is done.
        output.write_error(f"the result cannot be written: {error.strerror}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.ERROR
    except Exception as error:
        from airflow.providers.common.compat.sdk import AirflowException

        if not isinstance(error, AirflowException):
            raise
        output.write_error(error)
        return output.ERROR


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in ELSEWHERE:
        return _run_elsewhere(arguments[0], arguments[1:])
    parser = output.make_parser()
    # A shell asks what may follow: this answers, and ends the process.
    argcomplete.autocomplete(parser)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return output.OK
    # Airflow's loggers keep the stream that they find; stdout is for the result.
    with redirect_stdout(sys.stderr):
        command = _command_of(args.module)
    return command(args)


def _command_of(module: str) -> Callable[[argparse.Namespace], int]:
    """
    Return the function that runs the commands of a module. Only this one is imported:
    most of them import Airflow.

    :param module: the ``in`` of the command in ``commands.toml``.
    """
    match module:
        case "check":
            from polysync_airflow.cli.check import main as command
        case "executions":
            from polysync_airflow.cli.executions import main as command
        case "iam":
            from polysync_airflow.cli.iam import main as command
        case "jobs":
            from polysync_airflow.cli.jobs import main as command
        case "pipelines":
            from polysync_airflow.cli.pipelines import main as command
        case "prices":
            from polysync_airflow.cli.prices import main as command
        case "resume":
            from polysync_airflow.cli.resume import main as command
        case "records":
            from polysync_airflow.cli.records import main as command
        case _:
            raise ValueError(
                f"commands.toml names the module {module}, which runs no command"
            )
    return command


def _run_elsewhere(name: str, arguments: Sequence[str]) -> int:
    entry_points = importlib.metadata.entry_points(group=ENTRY_POINTS, name=name)
    if not entry_points:
        output.write_error(
            f"polysync {name} is a command of sagemaker-pipelines-emulator, which is"
            " not installed. Install it with: pip install 'polysync-airflow[emulator]'"
        )
        return output.ERROR
    command = entry_points[name].load()
    code: int = command(arguments, prog=f"polysync {name}")
    return code
