"""
The test cases about what people do around a task that waits: other DAG runs, deletions,
edits, another Airflow before or beside it.
"""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import (
    ALSO_WITHOUT_KEY,
    FAILED_AND_STOPPED,
    LONG,
    ONLY_LOCAL,
    ONLY_TEAM,
    REPLACED,
    STOPPED,
    SUCCESS_AFTER_RETRY,
    Case,
    Expected,
)
from tests.chaos.deployment.airflow_deployment import NO_KEY
from tests.chaos.scenarios import asset_events, changes, deployments, upgrades, users
from tests.chaos.scenarios.shared import Scenario, start_and_defer, start_and_poll

DELETED: Final = Expected(STOPPED, state=None, tries=None, stops=True)
RENAMED: Final = Expected(("Stopped", "Succeeded"), state=None, stops=True)
# Long enough for a later DAG run meanwhile.
WAITED_FOR: Final = 40.0
REPLACED_AFTER_ITS_END: Final = Expected(("Succeeded", "Succeeded"), tries=2)


def _case(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    seconds: float = LONG,
    *,
    released: bool | None = None,
    short: bool = False,
) -> Case:
    return Case(
        number,
        title,
        scenario,
        expected,
        seconds,
        released=released,
        short=ONLY_LOCAL if short else (),
        executors=ONLY_LOCAL,
    )


def _change(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    outage: str,
    *,
    short: bool = False,
) -> Case:
    """Return a test case that changes something that all of its runs share."""
    return Case(
        number,
        title,
        scenario,
        expected,
        LONG if expected.stops else 1,
        exclusive=True,
        outage=outage,
        short=ONLY_LOCAL if short else (),
        executors=ONLY_LOCAL,
    )


def _beside_staging(number: str, title: str, scenario: Scenario, tries: int) -> Case:
    """
    Return a test case with a second deployment.

    :param tries: those of the first deployment.
    """
    expected = Expected(tries=tries)
    return _change(number, title, scenario, expected, "46")


CHANGE_CASES: Final = (
    _case(
        "42a",
        "task killed, retries=0, a later DAG run succeeds, user clears the task",
        users.killed_then_cleared_after_later_run,
        REPLACED,
        short=True,
    ),
    _case(
        "42b",
        "as 42a, synchronous mode",
        users.killed_then_cleared_after_later_run,
        REPLACED,
        short=True,
    ),
    _case(
        "42c",
        "user marks the task failed, stop_on_kill=False, as 42a",
        users.marked_then_cleared_after_later_run(start_and_defer),
        REPLACED_AFTER_ITS_END,
        WAITED_FOR,
    ),
    _case(
        "42d",
        "as 42c, synchronous mode",
        users.marked_then_cleared_after_later_run(start_and_poll),
        REPLACED_AFTER_ITS_END,
        WAITED_FOR,
    ),
    _change(
        "43a",
        "DAG deleted while the task is deferred",
        changes.dag_deleted,
        DELETED,
        "43a",
    ),
    _case(
        "43b",
        "DAG run deleted while the task is deferred",
        changes.dag_run_deleted(start_and_defer),
        DELETED,
        short=True,
    ),
    _case(
        "43c",
        "as 43b, synchronous mode",
        changes.dag_run_deleted(start_and_poll),
        DELETED,
    ),
    _change(
        "44a",
        "DAG file edited while the task is deferred",
        changes.file_edited,
        Expected(),
        "44",
    ),
    _change(
        "44b",
        "as 44a, user clears the task",
        changes.file_edited_and_cleared,
        REPLACED,
        "44",
    ),
    _change(
        "44c",
        "task renamed while it is deferred",
        changes.task_renamed(start_and_defer),
        RENAMED,
        "44",
    ),
    _change(
        "44d",
        "as 44c, synchronous mode",
        changes.task_renamed(start_and_poll),
        RENAMED,
        "44",
    ),
    _case(
        "45a",
        "connection deleted until the retry",
        changes.connection_deleted_for_a_time,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        released=True,
        short=True,
    ),
    _case(
        "45b",
        "connection deleted until the user clears the task",
        changes.connection_deleted_until_clear,
        Expected(("Stopped", "Succeeded"), tries=3, stops=True),
    ),
    _beside_staging(
        "46a",
        "staging has the same Fernet key and run id, its first start is refused",
        deployments.start_refused(start_and_defer),
        tries=1,
    ),
    _beside_staging(
        "46b",
        "as 46a, synchronous mode",
        deployments.start_refused(start_and_poll),
        tries=1,
    ),
    _beside_staging(
        "46c",
        "as 46a, the first process of each deployment is killed instead",
        deployments.processes_killed,
        tries=2,
    ),
    _beside_staging(
        "46d",
        "as 46c, synchronous mode",
        deployments.processes_killed,
        tries=2,
    ),
    _change(
        "56",
        "the database is copied, a user marks the deferred task in the copy",
        deployments.marked_in_copy,
        Expected(),
        "56",
    ),
    Case(
        "48a",
        "the connection belongs to the team of the task, synchronous mode",
        changes.connection_of_team,
        Expected(),
        executors=ONLY_TEAM,
    ),
    Case(
        "48b",
        "the connection belongs to the team of the task, deferred mode",
        changes.connection_of_team_in_triggerer,
        FAILED_AND_STOPPED,
        LONG,
        executors=ONLY_TEAM,
    ),
    Case(
        "49a",
        "wait_for_completion=False, DAG run has succeeded, user clears it",
        users.user_clears_ended_run,
        REPLACED,
        LONG,
        short=(NO_KEY,),
        executors=ALSO_WITHOUT_KEY,
    ),
    Case(
        "49b",
        "as 49a, synchronous mode",
        users.user_clears_ended_run,
        REPLACED,
        LONG,
        short=(NO_KEY,),
        executors=ALSO_WITHOUT_KEY,
    ),
    _case(
        "65",
        "airflow tasks test of the deferred task",
        users.deferred_task_tested,
        Expected(),
        seconds=5.0,
        released=True,
    ),
    Case(
        "47",
        "10 DAG runs by asset events, 20 mapped tasks each",
        asset_events.many_dag_runs,
        Expected(
            ("Succeeded",) * asset_events.DAG_RUNS * asset_events.TASKS, tries=None
        ),
        seconds=1,
        exclusive=True,
        released=False,
        short=(),
        executors=ONLY_LOCAL,
    ),
)

# Cases of the option --upgrade. All of them go through the same upgrade of Airflow.
UPGRADE_CASES: Final = (
    _change(
        "50a",
        "upgrade of Airflow while the task is deferred",
        upgrades.while_deferred,
        Expected(),
        "50",
    ),
    _change(
        "50b",
        "upgrade of Airflow while the task, killed after the start, waits for its retry",
        upgrades.before_retry,
        SUCCESS_AFTER_RETRY,
        "50",
    ),
    _change(
        "50c",
        "as 50a, user clears the task afterwards",
        upgrades.and_cleared,
        REPLACED,
        "50",
    ),
)
