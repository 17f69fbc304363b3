"""
Command line of the chaos suite: kills and restarts processes of a real Airflow, and
checks the executions.

``make chaos`` runs it. It starts everything that it needs, and stops it at the end. The
option ``--executor celery`` runs the test cases with CeleryExecutor, which has a broker
and workers of its own that can fail as well, and ``--executor pods`` those of
KubernetesExecutor, whose pods are processes of this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx

from tests.chaos.cases import (
    ALL_CASES,
    AMAZON_CASES,
    CASES,
    JOB_NAME_CASE,
    UPGRADE_CASES,
)
from tests.chaos.cases.case import Case
from tests.chaos.checks import Outcome
from tests.chaos.deployment.airflow_deployment import (
    AMAZON,
    CELERY,
    EXECUTORS,
    LOCAL,
    NO_KEY,
    OF_JOB,
    PODS,
    POLYSYNC,
    PROVIDERS,
    QUEUES,
    TEAM,
    AirflowDeployment,
)
from tests.chaos.report import details, table
from tests.chaos.run import Run
from tests.chaos.runner import Runner
from tests.matrix.environment import VERSIONS, Environment
from tests.system.airflow.client import AirflowError
from tests.system.process.sessions import ProcessError
from tests.system.process.signals import InterruptedByUserError, raise_on_signals

INTERRUPTED: Final = 130
# Airflow 3 has another API than Airflow 2, so the suite cannot go on after an upgrade
# from that.
AIRFLOW_3: Final = [version for version in VERSIONS if not version.startswith("2.")]
DESCRIPTIONS: Final = {
    LOCAL: "PostgreSQL, the emulator and Airflow with LocalExecutor and two triggerers",
    PODS: "PostgreSQL, the emulator, a Kubernetes API and Airflow with KubernetesExecutor and two triggerers",
    TEAM: "PostgreSQL, the emulator and Airflow with a team: LocalExecutor and two triggerers of the team",
    NO_KEY: "PostgreSQL, the emulator and Airflow with LocalExecutor, two triggerers and no Fernet key",
    QUEUES: "PostgreSQL, the emulator and Airflow with LocalExecutor and two triggerers with --queues default",
    CELERY: "PostgreSQL, Redis, the emulator and Airflow with two Celery workers and two triggerers",
}


def main() -> int:
    """
    Run the chaos suite.

    :return: the exit status: 0; 1 if a run failed a check or could not be made; 130 if
        a signal interrupted the suite.
    """
    parser = _parser()
    options = parser.parse_args()
    _continue_on_chosen_version(parser, options)
    cases = _selected_cases(options)
    raise_on_signals()
    home = Path(tempfile.mkdtemp(prefix="polysync-chaos-"))
    print(f"Starting {DESCRIPTIONS[options.executor]}; logs in {home}", flush=True)
    outcomes = _Outcomes(checked=options.provider == POLYSYNC)
    subject = options.provider + (OF_JOB if options.job else "")
    status = 0
    try:
        with AirflowDeployment(
            home, subject, options.executor, _first_python(options)
        ) as deployment:
            runs = 1 if options.short else options.runs
            runner = Runner(
                deployment,
                cases,
                runs=runs,
                at_once=options.at_once,
                report=outcomes.add,
            )
            runner.run()
    except InterruptedByUserError:
        print("Interrupted. All processes were stopped.")
        status = INTERRUPTED
    except (AirflowError, ProcessError, httpx.HTTPError) as error:
        print(error)
        status = 1
    outcomes.print_table()
    if outcomes.have_problems():
        status = status or 1
    if status == 1 or options.keep:
        print(f"Logs: {home}")
    else:
        shutil.rmtree(home)
    return status


class _Outcomes:
    """
    The outcomes of all runs so far.

    :param checked: whether the outcomes were checked, or only measured.
    """

    def __init__(self, *, checked: bool) -> None:
        self._checked = checked
        self._start = time.monotonic()
        self._by_case: dict[Case, list[Outcome]] = {}

    def add(self, case: Case, run: Run, outcome: Outcome) -> None:
        """Add the outcome of a run, and print it."""
        self._by_case.setdefault(case, []).append(outcome)
        text = details(case, run.pipeline, outcome, checked=self._checked)
        print(f"[{self._seconds():5.0f} s] {text}", flush=True)

    def print_table(self) -> None:
        """Print the table of all outcomes."""
        if self._by_case:
            ordered = {
                case: runs for case in ALL_CASES if (runs := self._by_case.get(case))
            }
            print(
                f"\n{table(ordered, checked=self._checked)}\n\nTotal time: {self._seconds():.0f} s."
            )

    def have_problems(self) -> bool:
        """Return whether a run failed a check."""
        return self._checked and any(
            outcome.problems for runs in self._by_case.values() for outcome in runs
        )

    def _seconds(self) -> float:
        return time.monotonic() - self._start


def _continue_on_chosen_version(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> None:
    """
    Run the suite in the environment of the version of Airflow that the options name, in
    place of this process.
    """
    versions = options.upgrade or ((options.airflow,) if options.airflow else ())
    if not versions:
        return
    if options.provider != POLYSYNC or options.executor == CELERY:
        parser.error(
            "the environments of make matrix have neither Celery nor aiobotocore"
        )
    if options.executor == PODS and versions[0] not in AIRFLOW_3:
        parser.error(f"--executor pods: only with {', '.join(AIRFLOW_3)}")
    *_, newest = environments = [Environment(version) for version in versions]
    if Path(sys.prefix) != newest.folder:
        for environment in environments:
            environment.install_if_needed()
        os.execv(
            newest.python, [str(newest.python), "-m", "tests.chaos", *sys.argv[1:]]
        )


def _first_python(options: argparse.Namespace) -> Path:
    """Return the interpreter of the Airflow that is started first."""
    return (
        Environment(options.upgrade[0]).python
        if options.upgrade
        else Path(sys.executable)
    )


def _selected_cases(options: argparse.Namespace) -> list[Case]:
    compared = options.job or options.provider == AMAZON
    available = [
        case
        for case in (UPGRADE_CASES if options.upgrade else CASES)
        if options.executor in case.executors
        and (not compared or case.number in AMAZON_CASES)
    ]
    if options.job and options.provider == AMAZON:
        available.append(JOB_NAME_CASE)
    if options.rows is None:
        return [
            case
            for case in available
            if not options.short or options.executor in case.short
        ]
    numbers = options.rows.split(",")
    unknown = [
        number
        for number in numbers
        if not any(_matches(case, number) for case in available)
    ]
    if unknown:
        raise SystemExit(
            f"--rows: no test cases {', '.join(unknown)} for {options.provider} with {options.executor}"
        )
    return [
        case for case in available if any(_matches(case, number) for number in numbers)
    ]


def _upgrade(text: str) -> tuple[str, str]:
    old, _, new = text.partition(":")
    if not {old, new} <= set(AIRFLOW_3) or AIRFLOW_3.index(old) >= AIRFLOW_3.index(new):
        raise argparse.ArgumentTypeError(
            f"expected OLD:NEW, two of {', '.join(AIRFLOW_3)}"
        )
    return old, new


def _matches(case: Case, number: str) -> bool:
    """Return whether a number selects a case; 8 selects 8a to 8d."""
    return number in (case.number, case.number.rstrip("abcdefghijk"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--runs",
        type=int,
        default=5,
        help="number of runs of each test case (default: 5)",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="run the quick test cases once; with celery, those in which the executor matters; takes about four minutes",
    )
    parser.add_argument(
        "--rows", help="test cases to run, for example 1,2,8a (8 selects 8a to 8d)"
    )
    parser.add_argument(
        "--provider",
        choices=PROVIDERS,
        default=POLYSYNC,
        help="the provider to run; the amazon provider is measured, but not checked (default: polysync)",
    )
    parser.add_argument(
        "--job",
        action="store_true",
        help="run the test cases in which both providers are measured, with a training job in place of a pipeline",
    )
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default=LOCAL,
        help=f"Airflow's executor (default: {LOCAL})",
    )
    parser.add_argument(
        "--airflow",
        choices=VERSIONS,
        metavar="VERSION",
        help=f"the version of Airflow to run: {', '.join(VERSIONS)} (default: the one of constraints.txt)",
    )
    parser.add_argument(
        "--upgrade",
        type=_upgrade,
        metavar="OLD:NEW",
        help="run the test cases of an upgrade of Airflow, for example 3.2.1:3.3.1",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=12,
        help="number of concurrent runs (default: 12)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
