"""The commands whose options are defined in the module that ``python -m`` runs too."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from polysync_airflow.cli.output import OK


class Delegated(NamedTuple):
    """
    A command that another module runs.

    :param module: the module. Its function ``main`` takes the arguments and ``prog``.
    :param purpose: what the command is for.
    """

    module: str
    purpose: str


DELEGATED: Final = {
    "iam": Delegated("polysync_airflow.iam", "print IAM policies"),
    "records": Delegated("polysync_airflow.records.__main__", "list and delete records of past DAG runs"),
    "emulator": Delegated("polysync_airflow.emulator.__main__", "run a local SageMaker endpoint"),
}


def run_delegated(name: str, arguments: Sequence[str]) -> int:
    """
    Run a command of another module.

    :param name: name of the command.
    :param arguments: its arguments.
    :return: the exit code.
    """
    module = importlib.import_module(DELEGATED[name].module)
    status: int | None = module.main(arguments, prog=f"polysync {name}")
    return OK if status is None else status
