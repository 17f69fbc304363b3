"""
Runs the checks on each version of Airflow and prints a table: ``make matrix``.

Each check is a command of its own, so it can be repeated in the environment that the
first step creates.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.matrix.environment import VERSIONS, Environment

# The tables of outcomes and of recovery, and whatever else asks Airflow for something.
TABLES: Final = (
    "tests/unit/lineage",
    "tests/unit/operators",
    "tests/unit/events",
    "tests/unit/sensors",
    "tests/documentation/test_restored_database.py",
    "tests/unit/sensors/test_errors.py",
    "tests/unit/triggers",
    "tests/unit/jobs",
    "tests/definitions/test_job_requests.py",
    "tests/unit/cli/test_pipelines.py",
    "tests/unit/cli/test_resume.py",
    "tests/unit/hooks",
    "tests/unit/test_hooks.py",
    "tests/documentation/examples/test_approval_dags.py",
    "tests/documentation/examples/test_example_dags.py",
    "tests/documentation/examples/test_react_to_others.py",
    "tests/matrix",
    "tests/unit/test_links.py",
    "tests/packaging/test_provider_info.py",
    "tests/unit/ui",
)
# The shortest part of them that shows whether a version still works.
OUTCOMES: Final = (
    "tests/unit/lineage/test_facets.py",
    "tests/unit/operators/contract",
    "tests/unit/operators/recovery/test_resuming.py",
    "tests/unit/operators/recovery/test_retry_decisions.py",
    "tests/matrix/test_permanent_errors.py",
    "tests/matrix/test_reschedule.py",
    "tests/matrix/test_rescheduled_tries.py",
    "tests/documentation/examples/test_example_dags.py",
)
CHAOS_ROWS: Final = "2,4,5,6,8,9,15"


def install(environment: Environment) -> str:
    """Install the wheel under the pins."""
    environment.install()
    return "no resolution error"


def provider(environment: Environment) -> str:
    """Let Airflow list the provider."""
    return f"listed with version {environment.provider_version()}"


def outcomes(environment: Environment) -> str:
    """Run the tests of outcomes, of lineage, of crashes and of the example DAGs."""
    _run_in_parallel(environment, OUTCOMES)
    return "passed"


def tables(environment: Environment) -> str:
    """Run the tests of outcomes, recovery, triggers and example DAGs."""
    _run_in_parallel(environment, TABLES)
    return "passed"


def _run_in_parallel(environment: Environment, tests: Sequence[str]) -> None:
    selected = ("-m", "not clients and not system")
    environment.run(
        "-m",
        "pytest",
        "-q",
        "--numprocesses",
        "logical",
        "--dist",
        "worksteal",
        *selected,
        *tests,
    )


def system(environment: Environment) -> str:
    """Run the tests that start a whole Airflow."""
    # The demo is for the newest version only.
    demo = ("--ignore", "tests/system/test_demo.py")
    environment.run(
        "-m", "pytest", "-q", "-m", "system", "tests/system", "tests/browser", *demo
    )
    return "passed"


def chaos(environment: Environment) -> str:
    """Kill and restart processes of a whole Airflow on PostgreSQL."""
    environment.run("-m", "tests.chaos", "--runs", "1", "--rows", CHAOS_ROWS)
    return f"rows {CHAOS_ROWS} as expected"


STEPS: Final[dict[str, Callable[[Environment], str]]] = {
    step.__name__: step for step in (install, provider, outcomes, tables, system, chaos)
}
# ``tables`` contains ``outcomes``.
DEFAULT_STEPS: Final = ("install", "provider", "tables", "system", "chaos")


def main() -> int:
    """Run the steps for each version, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument(
        "--versions", default=",".join(VERSIONS), help="default: %(default)s"
    )
    parser.add_argument(
        "--steps", default=",".join(DEFAULT_STEPS), help="default: %(default)s"
    )
    arguments = parser.parse_args()
    rows = [
        _run(Environment(version), step)
        for version in arguments.versions.split(",")
        for step in arguments.steps.split(",")
    ]
    print("\n| Airflow | step | seconds | result |\n| --- | --- | ---: | --- |")
    for _, row in rows:
        print(row)
    return 0 if all(passed for passed, _ in rows) else 1


def _run(environment: Environment, step: str) -> tuple[bool, str]:
    start, passed = time.monotonic(), True
    print(f"\n=== Airflow {environment.version}: {step}", flush=True)
    try:
        result = STEPS[step](environment)
    except (LookupError, subprocess.CalledProcessError) as error:
        passed, result = False, f"FAILED: {error}"
    seconds = time.monotonic() - start
    return passed, f"| {environment.version} | {step} | {seconds:.0f} | {result} |"


if __name__ == "__main__":
    raise SystemExit(main())
