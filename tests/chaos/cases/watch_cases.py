"""The test cases in which a task ends while none of its processes runs."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import (
    ALSO_WITH_QUEUES,
    LONG,
    ONLY_LOCAL,
    STOPPED,
    Case,
    Expected,
)
from tests.chaos.run import Run
from tests.chaos.scenarios import watch
from tests.chaos.scenarios.shared import Scenario

# A success that somebody has marked keeps the record.
ENDED: Final = Expected(STOPPED, state=None, tries=None, stops=True, forgotten=False)
DRAINED: Final = "SIGTERM to the task's process, then, before its retry, "


def _case(number: str, title: str, scenario: Scenario, *, short: bool = False) -> Case:
    return Case(
        number,
        title,
        scenario,
        ENDED,
        LONG,
        short=ALSO_WITH_QUEUES if short else (),
        executors=ALSO_WITH_QUEUES,
    )


WATCH_CASES: Final = (
    _case(
        "60a",
        f"{DRAINED}the DAG run is marked as failed",
        watch.drained_then(Run.fail_dag_run),
        short=True,
    ),
    _case(
        "60b",
        f"{DRAINED}the DAG run is marked as failed, and deleted",
        watch.drained_and_run_deleted,
    ),
    _case("60c", f"{DRAINED}dagrun_timeout passes", watch.drained_until_timeout),
    _case(
        "60d",
        f"{DRAINED}the task is marked as success",
        watch.drained_then(lambda run: run.mark_task("success")),
        short=True,
    ),
    _case(
        "60e",
        f"{DRAINED}the task is marked as failed",
        watch.drained_then(lambda run: run.mark_task("failed")),
    ),
    _case(
        "60f",
        f"{DRAINED}the task is marked as skipped",
        watch.drained_then(lambda run: run.mark_task("skipped")),
    ),
    Case(
        "60g",
        f"{DRAINED}the DAG is deleted; polysync records --stop-orphans",
        watch.drained_and_dag_deleted,
        ENDED,
        LONG,
        exclusive=True,
        outage="60g",
        short=(),
        executors=ONLY_LOCAL,
    ),
    _case(
        "60h",
        "the task's process is killed, retries=0",
        watch.killed_without_retries,
    ),
)
