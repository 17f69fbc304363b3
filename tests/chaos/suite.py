"""Owns the order of the runs: side by side where a row kills only its own task, else one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import httpx

from tests.chaos.deployment import Deployment
from tests.chaos.rows import Row
from tests.chaos.run import DeviationError, Run, Steps
from tests.chaos.verdict import Outcome, judge, settle
from tests.system.airflow_client import AirflowError

TICK: Final = 1.0
Report = Callable[[Row, Run, Outcome], None]


@dataclass
class _Going:
    row: Row
    run: Run
    steps: Steps
    since: float


class Suite:
    """
    All runs of some rows.

    :param deployment: what they befall.
    :param rows: the rows.
    :param runs: how often each is run.
    :param at_once: how many runs go side by side.
    :param report: is told of each run's outcome.
    """

    def __init__(
        self, deployment: Deployment, rows: Iterable[Row], *, runs: int, at_once: int, report: Report
    ) -> None:
        self._deployment = deployment
        self._rows = tuple(rows)
        self._runs = runs
        self._at_once = at_once
        self._report = report

    def run(self) -> None:
        """Run everything."""
        for row in self._rows:
            self._deployment.client.wait_for_dag(f"{self._deployment.provider}_{row.number}")
        self._side_by_side([row for row in self._rows if not row.alone])
        for row in self._rows:
            for number in range(self._runs if row.alone else 0):
                self._alone(row, number)

    def _side_by_side(self, rows: Iterable[Row]) -> None:
        # Each row's first run, then each row's second: no two of a row begin together. The table's last rows
        # take longest, so they begin first.
        ordered = tuple(rows)[::-1]
        waiting = iter([(row, number) for number in range(self._runs) for row in ordered])
        going: list[_Going] = []
        while True:
            going += self._begin(islice(waiting, self._at_once - len(going)))
            if not going:
                return
            self._deployment.airflow.check_alive()
            self._deployment.calls.refresh()
            going = [one for one in going if self._goes_on(one)]
            time.sleep(TICK)

    def _alone(self, row: Row, number: int) -> None:
        (one,) = self._begin([(row, number)])
        self._deployment.calls.refresh()
        while self._goes_on(one):
            time.sleep(TICK)
            self._deployment.calls.refresh()
        self._deployment.repair()

    def _begin(self, runs: Iterable[tuple[Row, int]]) -> Iterator[_Going]:
        for row, number in runs:
            run = Run(self._deployment, row.number, number + 1, seconds=row.seconds, held=row.alone)
            yield _Going(row, run, _whole(row, run), time.monotonic())

    def _goes_on(self, one: _Going) -> bool:
        """Let a run go on until it has to wait; report it if it has ended."""
        try:
            next(one.steps)
        except StopIteration:
            outcome = judge(one.row, one.run, time.monotonic() - one.since)
            self._report(one.row, one.run, outcome)
            return False
        return True


def _whole(row: Row, run: Run) -> Steps:
    try:
        yield from row.script(run)
    except (DeviationError, AirflowError, httpx.HTTPError) as error:
        run.problems.append(str(error))
    yield from settle(run)
