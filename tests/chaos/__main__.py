"""
Owns the command that lets chaos befall a real Airflow, and tells whether every promise held.

``make chaos`` runs it. It starts everything it needs and leaves nothing running.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import httpx

from tests.chaos.deployment import Deployment
from tests.chaos.rows import AMAZONS, ROWS, Row
from tests.chaos.run import Run
from tests.chaos.suite import Suite
from tests.chaos.table import details, table
from tests.chaos.verdict import Outcome
from tests.system.airflow_client import AirflowError
from tests.system.interruption import InterruptedByPersonError, raise_when_interrupted
from tests.system.processes import ProcessError

INTERRUPTED: Final = 130
# They take a minute or more each, and no other can run beside them.
SLOW: Final = ("6a", "6b", "13", "14", "17a", "17b")


def main() -> int:
    """
    Run the suite.

    :returns: the exit status: 0, 1 if any run deviates or could not be made, 130 if it was interrupted.
    """
    options = _parser().parse_args()
    rows = _rows(options.provider, options.rows, short=options.short)
    raise_when_interrupted()
    home = Path(tempfile.mkdtemp(prefix="polysync-chaos-"))
    print(f"Starting PostgreSQL, the emulator and Airflow with two triggerers; logs in {home}", flush=True)
    outcomes = _Outcomes(judged=options.provider == "polysync")
    status = 0
    try:
        with Deployment(home, options.provider) as deployment:
            runs = 1 if options.short else options.runs
            Suite(deployment, rows, runs=runs, at_once=options.at_once, report=outcomes.add).run()
    except InterruptedByPersonError:
        print("Interrupted. Nothing is left running.")
        status = INTERRUPTED
    except (AirflowError, ProcessError, httpx.HTTPError) as error:
        print(error)
        status = 1
    outcomes.tell()
    if outcomes.deviate():
        status = status or 1
    if status == 1 or options.keep:
        print(f"Logs: {home}")
    else:
        shutil.rmtree(home)
    return status


class _Outcomes:
    """What came of all runs so far, and when."""

    def __init__(self, *, judged: bool) -> None:
        self._judged = judged
        self._begin = time.monotonic()
        self._seen: dict[Row, list[Outcome]] = {}

    def add(self, row: Row, run: Run, outcome: Outcome) -> None:
        """Note a run, and tell of it at once."""
        self._seen.setdefault(row, []).append(outcome)
        told = details(row, run.pipeline, outcome, judged=self._judged)
        print(f"[{self._seconds():5.0f} s] {told}", flush=True)

    def tell(self) -> None:
        """Print the table."""
        if self._seen:
            ordered = {row: self._seen[row] for row in ROWS if row in self._seen}
            print(f"\n{table(ordered, judged=self._judged)}\n\nAll in {self._seconds():.0f} s.")

    def deviate(self) -> bool:
        """Tell whether a run came to anything but what is promised."""
        return self._judged and any(outcome.problems for runs in self._seen.values() for outcome in runs)

    def _seconds(self) -> float:
        return time.monotonic() - self._begin


def _rows(provider: str, wanted: str | None, *, short: bool) -> list[Row]:
    known = [row for row in ROWS if provider == "polysync" or row.number in AMAZONS]
    if wanted is None:
        return [row for row in known if not (short and row.number in SLOW)]
    numbers = wanted.split(",")
    unknown = [number for number in numbers if not any(_is(row, number) for row in known)]
    if unknown:
        raise SystemExit(f"{provider} has no rows {', '.join(unknown)}")
    return [row for row in known if any(_is(row, number) for number in numbers)]


def _is(row: Row, number: str) -> bool:
    """Tell whether a row is meant: 8 means all of 8a to 8d."""
    return number in (row.number, row.number.rstrip("abcd"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="how often each row is run (default: 5)")
    parser.add_argument(
        "--short", action="store_true", help=f"each row once, all but {', '.join(SLOW)}: a few minutes"
    )
    parser.add_argument("--rows", help="only these, such as 1,2,8a (8 means all of 8a to 8d)")
    parser.add_argument("--provider", choices=("polysync", "amazon"), default="polysync")
    parser.add_argument("--at-once", type=int, default=12, help="runs side by side (default: 12)")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
