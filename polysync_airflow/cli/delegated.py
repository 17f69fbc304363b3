"""The commands whose options are defined in the module that ``python -m`` runs too."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from polysync_airflow.cli.output import ERROR, OK, write_error


class Delegated(NamedTuple):
    """
    A command that another module runs.

    :param module: the module. Its function ``main`` takes the arguments and ``prog``.
    :param purpose: what the command is for.
    :param extra: the extra of the package that it needs; None if it needs none.
    """

    module: str
    purpose: str
    extra: str | None = None


DELEGATED: Final = {
    "iam": Delegated("polysync_airflow.iam", "print IAM policies"),
    "records": Delegated("polysync_airflow.records.__main__", "list and delete records of past DAG runs"),
    "emulator": Delegated("polysync_airflow.emulator.__main__", "run a local SageMaker endpoint", "emulator"),
}


def run_delegated(name: str, arguments: Sequence[str]) -> int:
    """
    Run a command of another module.

    :param name: name of the command.
    :param arguments: its arguments.
    :return: the exit code.
    """
    command = DELEGATED[name]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        if command.extra is None or (error.name or "").startswith("polysync_airflow"):
            raise
        write_error(
            f"polysync {name} needs the Python package {error.name}. "
            f"Install it with: pip install 'polysync-airflow[{command.extra}]'"
        )
        return ERROR
    status: int | None = module.main(arguments, prog=f"polysync {name}")
    return OK if status is None else status
