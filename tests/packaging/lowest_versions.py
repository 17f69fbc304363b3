"""
Checks an environment with the lowest versions of what both distributions require:
``make lowest``.

Each direct requirement must be there in the version that is its lower bound. Otherwise
nobody has tried the bound, because other packages require a newer version: raise it.
Then all modules are imported.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from tempfile import TemporaryDirectory
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DISTRIBUTIONS: Final = {
    "polysync-airflow": "polysync_airflow",
    "sagemaker-pipelines-emulator": "sagemaker_emulator",
}
# It imports what Airflow 2 does not have; the plugin imports it where it is used.
ONLY_AIRFLOW_3: Final = {"polysync_airflow.ui.app"}


def main() -> int:
    """Check the environment, and return the exit code."""
    problems = [*untried_bounds(), *failing_imports()]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return int(bool(problems))


def untried_bounds() -> Iterator[str]:
    """Yield a sentence for each requirement that is not there in its lowest version."""
    for distribution in DISTRIBUTIONS:
        for text in requires(distribution) or ():
            requirement = Requirement(text)
            if canonicalize_name(requirement.name) in DISTRIBUTIONS:
                continue
            installed = version(requirement.name)
            print(f"{distribution} requires {text}: {installed}")
            bounds = [
                specifier.version
                for specifier in requirement.specifier
                if specifier.operator == ">="
            ]
            if not Requirement(f"x=={bounds[0]}").specifier.contains(installed):
                yield f"{text} of {distribution} is not tried: {installed} is installed"


def failing_imports() -> Iterator[str]:
    """Yield a sentence for each module that cannot be imported."""
    is_airflow_2 = version("apache-airflow").startswith("2.")
    count = 0
    for name in DISTRIBUTIONS.values():
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            is_skipped = is_airflow_2 and module.name in ONLY_AIRFLOW_3
            if is_skipped or module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
            except Exception as error:
                yield f"{module.name}: {type(error).__name__}: {error}"
            count += 1
    print(f"{count} modules imported")


if __name__ == "__main__":
    with TemporaryDirectory() as home:
        os.environ["AIRFLOW_HOME"] = home
        raise SystemExit(main())
