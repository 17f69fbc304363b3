"""Isolation: whatever looks alike to AWS (pipeline, parameters) belongs to one task instance each."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from tests.operators.recovery.histories import (
    NEVER_ENDS,
    START,
    STOP,
    DeathError,
    Ledger,
    Task,
    Wire,
    die,
    tokens,
)
from tests.tasks import EmulatedTime

# Pairs of task instances that differ in one thing only.
TWINS: dict[str, list[dict[str, Any]]] = {
    "mapped indices": [{"map_index": index} for index in range(3)],
    "two tasks of one DAG": [{"task_id": "train"}, {"task_id": "train_again"}],
    "task groups": [{"task_id": "north.train"}, {"task_id": "south.train"}],
    "two runs, as in a backfill": [
        {"run_id": "backfill__2026-01-01T00:00:00+00:00"},
        {"run_id": "backfill__2026-01-02T00:00:00+00:00"},
    ],
    "two DAGs": [{"dag_id": "retraining"}, {"dag_id": "retraining_copy"}],
}


@pytest.fixture(params=list(TWINS.values()), ids=list(TWINS))
def twins(request: pytest.FixtureRequest, deferrable: bool, emulated_time: EmulatedTime) -> list[Task]:
    """Tasks that start the same pipeline with the same parameters; Airflow gives each a store of its own."""
    return [Task(deferrable, {"pipeline_parameters": {"Shards": 4}}, **key) for key in request.param]


def test_each_has_its_own_execution(twins: list[Task], ledger: Ledger, emulator: EmulatorServer) -> None:
    """As many executions, tokens and display names as task instances; each result is its own."""
    runs = [task.next_try() for task in twins]

    assert [run.error for run in runs] == [None] * len(twins)
    assert sorted(run.result for run in runs) == sorted(ledger.arns)
    assert len(set(ledger.arns)) == len(set(tokens(emulator, START))) == len(twins)
    names = {call["request"]["PipelineExecutionDisplayName"] for call in emulator.control.calls(START)}
    assert len(names) == len(twins)


def test_each_adopts_its_own_after_a_common_death(
    twins: list[Task], wire: Wire, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """A host dies with all of them amid their starts: every next try comes to its own execution."""
    for task in twins:
        wire.after(START, die)
        assert isinstance(task.next_try().error, DeathError)
    started = ledger.arns

    runs = [task.next_try() for task in reversed(twins)]

    assert [run.error for run in runs] == [None] * len(twins)
    mine = {call["request"]["ClientRequestToken"] for call in emulator.control.calls(START)}
    assert len(mine) == len(twins)
    assert sorted(run.result for run in runs) == sorted(started)
    by_token = {record.request["ClientRequestToken"]: record.arn for record in ledger.executions}
    assert [task.record["execution_arn"] for task in twins] == [
        by_token[task.record["request"]["client_request_token"]] for task in twins
    ]


def test_a_clear_of_one_leaves_the_others_alone(
    twins: list[Task], ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Only the cleared task's execution is stopped and started anew."""
    for task in twins:
        emulated_time.after(100, die)
        task.next_try()
    others = [task.record["execution_arn"] for task in twins[1:]]
    twins[0].clear()

    twins[0].next_try()
    runs = [task.next_try() for task in twins[1:]]

    assert [run.result for run in runs] == others
    stopped = {call["request"]["PipelineExecutionArn"] for call in emulator.control.calls(STOP)}
    assert len(stopped) == 1
    assert stopped.isdisjoint(others)


def test_a_kill_of_one_leaves_the_others_alone(
    twins: list[Task], ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The stop that follows a timeout names one execution."""
    emulator.control.put_scenario(NEVER_ENDS)
    twins[0].arguments["timeout"] = 1000
    for task in twins[1:]:
        task.next_try(wait_for_completion=False)

    twins[0].next_try()
    emulator.control.advance(60)

    assert sorted(ledger.statuses) == ["Executing"] * (len(twins) - 1) + ["Stopped"]
    assert len(tokens(emulator, STOP)) == 1
