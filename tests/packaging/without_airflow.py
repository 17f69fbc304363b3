"""
A process in which neither Airflow, with its providers, nor boto3 can be imported.

``python -m tests.packaging.without_airflow polysync_airflow.execution -- tests/unit/execution``
imports all modules of packages, and runs tests.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from pkgutil import walk_packages
from typing import NoReturn

import pytest

BLOCKED = ("aiobotocore", "airflow", "boto3", "botocore")


class Blocker(MetaPathFinder):
    """Says that the packages of ``BLOCKED`` are not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """
        Find no module.

        :raises ModuleNotFoundError: the module is in one of the packages.
        """
        if fullname.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def block() -> None:
    """Block the packages in this process."""
    sys.meta_path.insert(0, Blocker())


def import_all(name: str) -> None:
    """Import a module, or a package with all modules in it; print their names."""
    folders = getattr(import_module(name), "__path__", ())
    print(name)
    for found in walk_packages(folders, f"{name}."):
        import_module(found.name)
        print(found.name)


def main(arguments: Sequence[str]) -> NoReturn:
    """
    Import packages, and run tests.

    :param arguments: the packages; after ``--``, the arguments of pytest.
    """
    separator = arguments.index("--")
    block()
    for name in arguments[:separator]:
        import_all(name)
    # What tests/conftest.py prepares is for tests with Airflow.
    options = ["--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", "-rs"]
    sys.exit(pytest.main([*options, *arguments[separator + 1 :]]))


if __name__ == "__main__":
    main(sys.argv[1:])
