"""
The test cases of a task group of steps. The scenarios check the states of the tasks.
"""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import LONG, ONLY_LOCAL, STOPPED, Case
from tests.chaos.cases.case import Expected as ExpectedOfTask
from tests.chaos.scenarios import step_groups
from tests.chaos.scenarios.shared import Scenario
from tests.chaos.scenarios.step_groups import FAILS_ONCE


def _expected(*statuses: str) -> ExpectedOfTask:
    return ExpectedOfTask(statuses, state=None, tries=None, stops="Stopped" in statuses)


SUCCESS: Final = _expected("Succeeded")
STOP: Final = _expected(*STOPPED)


def _case(
    number: str,
    title: str,
    scenario: Scenario,
    expected: ExpectedOfTask = SUCCESS,
    *,
    exclusive: bool = False,
    short: bool = False,
) -> Case:
    return Case(
        number,
        title,
        scenario,
        expected,
        LONG if expected.stops else 4.0,
        exclusive=exclusive,
        outage=number if exclusive else "",
        short=ONLY_LOCAL if short else (),
        executors=ONLY_LOCAL,
        group=True,
    )


GROUP_CASES: Final = (
    _case(
        "51a",
        "kill -9 of both triggerers while tasks of steps wait",
        step_groups.triggerers_killed_while_step_waits,
        exclusive=True,
    ),
    _case(
        "51b",
        "kill -9 of both triggerers while the task of a step ends",
        step_groups.triggerers_killed_while_step_ends,
        exclusive=True,
    ),
    _case(
        "51c",
        "kill -9 of one of two triggerers while tasks of steps wait",
        step_groups.triggerer_killed,
        exclusive=True,
    ),
    _case(
        "52a",
        "user fails the DAG run while steps run",
        step_groups.dag_run_failed,
        STOP,
        short=True,
    ),
    _case("52b", "DAG run deleted while steps run", step_groups.dag_run_deleted, STOP),
    _case(
        "52c", "user marks tasks of steps failed and success", step_groups.steps_marked
    ),
    _case(
        "52d",
        "user clears some steps, and fails the DAG run before the next try",
        step_groups.cleared_and_dag_run_failed,
        STOP,
        exclusive=True,
    ),
    _case(
        "53a",
        "user clears a failed step while another branch runs",
        step_groups.failed_step_cleared_while_branch_runs,
    ),
    # In short, those in which the task defers once: beside other stages, the
    # scheduler is seconds late, and fails a task that it resumes before it has noticed
    # the end of the session before.
    _case(
        "53b",
        "user clears a failed step after the end",
        step_groups.failed_steps_cleared("Train"),
        short=True,
    ),
    _case(
        "53c",
        "user clears three failed steps after the end",
        step_groups.failed_steps_cleared(*step_groups.BRANCHES),
    ),
    _case(
        "53d",
        "user clears a step that has succeeded, after a success",
        step_groups.succeeded_step_cleared,
        _expected("Succeeded", "Succeeded"),
        short=True,
    ),
    _case(
        "53e",
        "user clears the whole group while steps run",
        step_groups.all_cleared,
        _expected("Stopped", "Succeeded"),
    ),
    _case(
        "53f",
        "user clears a failed step while the only other one that has begun runs",
        step_groups.one_of_two_cleared(FAILS_ONCE),
    ),
    _case(
        "53g",
        "user clears a step right after the start, while another one runs, too",
        step_groups.one_of_two_cleared(None),
    ),
    _case(
        "54a",
        "kill -9 of the execution's task before the start is sent",
        step_groups.killed_at_start,
    ),
    _case("54b", "kill -9 after AWS processed the start", step_groups.killed_at_start),
)
