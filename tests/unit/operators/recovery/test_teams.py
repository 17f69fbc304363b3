"""
Tasks of a team: the DAG processor, the triggerer and the process of a replaced try do
not see the Variable with their record.
"""

from __future__ import annotations

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.records.keys import variable_key
from tests.conftest import IN_BOTH_MODES
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task, crash, run_failure_callbacks
from tests.world import NEVER_ENDS, START, STOP, World

if not CAPABILITIES.variable_keys:
    pytest.skip("teams are tested from Airflow 3.3 on", allow_module_level=True)


@pytest.fixture(autouse=True)
def _teams(
    monkeypatch: pytest.MonkeyPatch, simulated_airflow: SimulatedAirflow
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    simulated_airflow.has_teams = True


@IN_BOTH_MODES
def test_execution_of_a_dead_process_is_stopped_once(
    make_task: MakeTask, world: World
) -> None:
    """The failure callback finds the record in the XCom, also before the first poll."""
    world.control.put_scenario(NEVER_ENDS)
    world.requests.after(START, crash)
    task = make_task(retries=0)
    task.next_try()
    assert task.state == "failed"
    assert world.log.statuses == ["Executing"]

    run_failure_callbacks(task.prepare_try(), task.ti)
    run_failure_callbacks(task.prepare_try(), task.ti)
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]
    assert len(set(world.tokens(STOP))) == 1


def test_retry_that_died_before_it_wrote_the_copy(
    make_task: MakeTask, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The callback cannot read the record, but knows that there is one."""
    task = make_task(retries=0)
    task.crash_while_waiting(world.time)
    task.ti.xcoms.clear()

    run_failure_callbacks(task.prepare_try(), task.ti)

    assert world.calls(STOP) == []
    (text,) = [line for line in caplog.messages if "The task has failed." in line]
    assert "may still be running" in text
    assert f"{variable_key(task.key)!r} of a team" in text
    assert "the pipeline 'fanout'" in text


@pytest.mark.parametrize("state", ["restarting", None])
def test_clear_of_the_running_task(
    state: str | None, make_task: MakeTask, world: World
) -> None:
    """
    A clear gives the task a new id at once, so Airflow knows no team of the process
    that it kills. That stops its execution all the same.
    """
    world.control.put_scenario(NEVER_ENDS)
    task = make_task()
    task.prepare_try()

    def clear_and_kill() -> None:
        task.clear_while_running()
        task.state = state or task.state
        task.operator.on_kill()

    world.time.after(200, clear_and_kill)

    task.run_prepared_try()

    assert world.log.statuses == ["Stopped"]
    world.control.put_scenario({})
    run = task.next_try()
    assert run.error is None
    assert world.log.statuses == ["Stopped", "Succeeded"]
    assert world.log.max_concurrent == 1


@pytest.mark.parametrize(("name", "stops"), [(None, [STOP]), ("staging", [])])
def test_trigger_in_a_copied_database_stops_nothing(
    name: str | None, stops: list[str], world: World
) -> None:
    """The option tells it from the original: Airflow hides the identity."""
    world.control.put_scenario(NEVER_ENDS)
    task = Task(deferrable=True, retries=0, arguments={"timeout": 600})
    deferral = task.defer()
    if name:
        world.patch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", name)

    event = task.fire(deferral)

    assert ("stop" not in event) is (name is not None)
    assert world.calls(STOP) == stops
