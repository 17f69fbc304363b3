"""
Schedules the runs: all at once if a test case affects only its own task, otherwise one
test case after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import httpx

from tests.chaos.cases.case import Case
from tests.chaos.checks import Outcome, check, wait_for_executions
from tests.chaos.deployment.airflow_deployment import OF_JOB, AirflowDeployment
from tests.chaos.group import Group
from tests.chaos.job_run import JobRun
from tests.chaos.run import Run, Steps, UnexpectedStateError
from tests.system.airflow.client import AirflowError

TICK: Final = 1.0
Report = Callable[[Case, Run, Outcome], None]


@dataclass
class _ActiveRun:
    case: Case
    run: Run
    steps: Steps
    start: float


class Runner:
    """
    Runs test cases.

    :param deployment: the deployment.
    :param cases: the test cases.
    :param runs: number of runs of each test case.
    :param at_once: number of concurrent runs.
    :param report: called with the outcome of each run.
    """

    def __init__(
        self,
        deployment: AirflowDeployment,
        cases: Iterable[Case],
        *,
        runs: int,
        at_once: int,
        report: Report,
    ) -> None:
        self._deployment = deployment
        self._cases = tuple(cases)
        self._runs = runs
        self._at_once = at_once
        self._report = report

    def run(self) -> None:
        """Run all test cases."""
        self._wait_for_dags()
        self._run_concurrently([case for case in self._cases if not case.exclusive])
        for case in self._cases:
            if case.exclusive and not case.outage:
                self._run_one_after_the_other(case)
        outages = dict.fromkeys(case.outage for case in self._cases if case.outage)
        for outage in outages:
            self._run_group(
                [case for case in self._cases if case.outage == outage],
                range(self._runs),
            )

    def _wait_for_dags(self) -> None:
        for case in self._cases:
            self._deployment.client.wait_for_dag(
                f"{self._deployment.provider}_{case.number}"
            )

    def _run_concurrently(self, cases: Iterable[Case]) -> None:
        # The first run of each case, then the second run of each case, so that runs of
        # a case do not start together. The last cases of the table take longest, so
        # they start first.
        ordered = tuple(cases)[::-1]
        pending = iter(
            [(case, number) for number in range(self._runs) for case in ordered]
        )
        active: list[_ActiveRun] = []
        while True:
            active += self._start(islice(pending, self._at_once - len(active)))
            if not active:
                return
            self._deployment.supervise()
            self._deployment.calls.refresh()
            active = [run for run in active if self._advance(run)]
            time.sleep(TICK)

    def _run_one_after_the_other(self, case: Case) -> None:
        for number in range(self._runs):
            self._run_group([case], [number])

    def _run_group(self, cases: Iterable[Case], numbers: Iterable[int]) -> None:
        runs = [(case, number) for case in cases for number in numbers]
        active = list(self._start(runs, Group()))
        while active:
            self._deployment.calls.refresh()
            active = [run for run in active if self._advance(run)]
            time.sleep(TICK)
        self._deployment.repair()

    def _start(
        self, runs: Iterable[tuple[Case, int]], group: Group | None = None
    ) -> Iterator[_ActiveRun]:
        kind = JobRun if self._deployment.provider.endswith(OF_JOB) else Run
        for case, number in runs:
            run = kind(
                self._deployment,
                case.number,
                number + 1,
                seconds=case.seconds,
                hold=case.hold,
                group=group,
            )
            yield _ActiveRun(case, run, _all_steps(case, run), time.monotonic())

    def _advance(self, active: _ActiveRun) -> bool:
        """
        Continue a run until it has to wait; if it ends, report it and return False.
        """
        try:
            next(active.steps)
        except StopIteration:
            outcome = check(active.case, active.run, time.monotonic() - active.start)
            self._report(active.case, active.run, outcome)
            return False
        return True


def _all_steps(case: Case, run: Run) -> Steps:
    try:
        yield from case.scenario(run)
    except (UnexpectedStateError, AirflowError, httpx.HTTPError) as error:
        run.problems.append(str(error))
    run.group.leave(run.pipeline)
    yield from wait_for_executions(run)
