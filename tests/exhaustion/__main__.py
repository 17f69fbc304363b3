"""
Command line of the suite: takes from a real Airflow what it needs, and checks the
executions.

``make exhaustion`` runs it. It needs root, and starts everything else itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import httpx

from tests.chaos.cases.case import Case
from tests.chaos.checks import Outcome
from tests.chaos.report import details, table
from tests.chaos.run import Run
from tests.chaos.runner import Runner
from tests.exhaustion.cases import CASES
from tests.exhaustion.deployment import ExhaustedDeployment
from tests.exhaustion.host import MEMORY_CGROUPS
from tests.system.airflow.client import AirflowError
from tests.system.process.sessions import ProcessError
from tests.system.process.signals import InterruptedByUserError, raise_on_signals


def main() -> int:
    """
    Run the suite.

    :return: the exit status: 0; 1 if a run failed a check or could not be made; 130 if
        a signal interrupted the suite.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustion")
    parser.add_argument("--rows", help="cases to run, for example 1a,5 (5 selects all)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="the time of each outage"
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can mount small folders and limit memory")
    cases = _selected(options.rows)
    if not cases:
        parser.error(f"--rows {options.rows}: there are no such cases")
    raise_on_signals()
    home = Path(tempfile.mkdtemp(prefix="polysync-exhaustion-"))
    print(f"Starting an Airflow; logs in {home}", flush=True)
    outcomes: dict[Case, list[Outcome]] = {}

    def report(case: Case, run: Run, outcome: Outcome) -> None:
        outcomes.setdefault(case, []).append(outcome)
        print(details(case, run.pipeline, outcome, checked=True), flush=True)

    status = 0
    try:
        with ExhaustedDeployment(home, options.seconds) as deployment:
            Runner(deployment, cases, runs=1, at_once=1, report=report).run()
    except InterruptedByUserError:
        print("Interrupted. All processes were stopped.")
        status = 130
    except (AirflowError, ProcessError, httpx.HTTPError) as error:
        print(error)
        status = 1
    if outcomes:
        ordered = {case: outcomes[case] for case in CASES if case in outcomes}
        print(f"\n{table(ordered, checked=True)}")
    if any(outcome.problems for runs in outcomes.values() for outcome in runs):
        status = status or 1
    if status == 1 or options.keep:
        print(f"Logs: {home}")
    else:
        shutil.rmtree(home)
    return status


def _selected(rows: str | None) -> list[Case]:
    possible = list(CASES)
    if not MEMORY_CGROUPS.is_dir():
        print("Case 4 is left out: this host has no memory control groups (version 1)")
        possible = [case for case in CASES if case.number != "4"]
    if rows is None:
        return possible
    numbers = rows.split(",")
    return [
        case
        for case in possible
        if case.number in numbers or case.number.rstrip("abcdef") in numbers
    ]


if __name__ == "__main__":
    sys.exit(main())
