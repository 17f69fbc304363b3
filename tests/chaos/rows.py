"""Owns the table's rows: what each is about, how it goes, and what must come of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from tests.chaos import scripts
from tests.chaos.run import Run
from tests.chaos.scripts import Script

# Of an execution that nothing but a stop ends in time.
LONG: Final = 200.0


@dataclass(frozen=True)
class Expected:
    """
    What must be seen of each run of a row.

    :param statuses: how the pipeline's executions have ended, in the order of their start.
    :param state: the final state of each task.
    :param tries: of each task; None where it does not matter.
    :param stops: whether the executions were asked to stop.
    """

    statuses: tuple[str, ...] = ("Succeeded",)
    state: str = "success"
    tries: int | None = 1
    stops: bool = False


@dataclass(frozen=True)
class Row:
    """
    One row of the table.

    :param number: its name in the table.
    :param what: dies or happens.
    :param script: how.
    :param expected: what must come of it.
    :param seconds: how long each of the pipeline's three steps takes.
    :param alone: whether it befalls what all tasks share, so that its runs go one after the other; then the
        executions end when the script says so.
    """

    number: str
    what: str
    script: Script
    expected: Expected
    seconds: float = 5.0
    alone: bool = False


BY_RETRY: Final = Expected(tries=2)
STOPPED: Final = ("Stopped",)
REPLACED: Final = Expected(("Stopped", "Succeeded"), tries=2, stops=True)


def _says(state: str) -> Script:
    return scripts.user_says(lambda run: run.mark_task(state))


ROWS: Final = (
    Row("1", "kill -9 of the task before Start is sent", scripts.killed_before_start, BY_RETRY),
    Row("2", "kill -9 after Start was processed", scripts.killed_by_itself, BY_RETRY),
    Row("3a", "answer of Start lost, worker alive", scripts.response_lost(1), Expected()),
    Row(
        "3b",
        "answer of Start lost each time botocore asks",
        scripts.response_lost(scripts.ATTEMPTS),
        Expected(tries=None),
    ),
    Row("4", "kill -9 before the deferral", scripts.killed_by_itself, BY_RETRY),
    Row("5", "kill -9 of the worker in a synchronous wait", scripts.worker_killed, BY_RETRY, seconds=20),
    Row(
        "6a",
        "kill -9 of the triggerer that polls",
        scripts.triggerer_signalled(signal.SIGKILL),
        Expected(),
        seconds=1,
        alone=True,
    ),
    Row(
        "6b",
        "SIGTERM of the triggerer that polls",
        scripts.triggerer_signalled(signal.SIGTERM),
        Expected(),
        seconds=1,
        alone=True,
    ),
    Row("7", "triggerer frozen, then thawed", scripts.triggerer_frozen, Expected(), seconds=1, alone=True),
    Row("8a", "user fails it while deferred", _says("failed"), Expected(STOPPED, "failed", stops=True), LONG),
    Row("8b", "user marks it success while deferred", _says("success"), Expected(STOPPED, stops=True), LONG),
    Row("8c", "user clears it while deferred", scripts.user_clears, REPLACED, LONG),
    Row(
        "8d",
        "user fails the DAG run while deferred",
        scripts.user_says(Run.fail_dag_run),
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Row(
        "9a",
        "execution_timeout passes while deferred",
        scripts.time_passes,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Row(
        "9b",
        "execution_timeout passes in the worker",
        scripts.time_passes,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Row(
        "9c",
        "dagrun_timeout passes while deferred",
        scripts.time_passes,
        Expected(STOPPED, "skipped", stops=True),
        LONG,
    ),
    Row("10", "third step fails, retry_mode=resume", scripts.fails_and_resumes, BY_RETRY, seconds=3),
    Row(
        "11",
        "execution fails, retry_mode=new",
        scripts.fails_and_starts_anew,
        Expected(("Failed", "Succeeded"), tries=2),
        3,
    ),
    Row("12", "as 2, with other template values", scripts.killed_with_other_values, BY_RETRY),
    Row(
        "13",
        "all calls throttled for 2 min, 50 wait",
        scripts.everything_throttled,
        Expected(("Succeeded",) * 50),
        seconds=1,
        alone=True,
    ),
    Row(
        "14",
        "API server restarted, 20 wait",
        scripts.api_server_restarted,
        Expected(("Succeeded",) * 20),
        seconds=1,
        alone=True,
    ),
    Row("15a", "worker dies, retries=0; user clears", scripts.worker_killed_and_cleared, REPLACED, LONG),
    Row("15b", "task dies after Start; user clears", scripts.killed_and_cleared, REPLACED, LONG),
    Row(
        "16",
        "worker dies, retries=0, nobody clears",
        scripts.worker_killed,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Row(
        "17a",
        "scheduler and workers die while deferred",
        scripts.scheduler_killed_while_deferred,
        Expected(),
        seconds=1,
        alone=True,
    ),
    Row(
        "17b",
        "scheduler and workers die, one waiting",
        scripts.scheduler_killed_while_working,
        BY_RETRY,
        seconds=1,
        alone=True,
    ),
)
AMAZONS: Final = ("2", "6a", "6b", "8a", "8b", "8c", "8d", "9a", "9b", "9c")
