"""A task with ``max_cost``: two steps run at first, on an instance each."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionTooExpensiveError,
)
from polysync_airflow.execution.prices import Spending
from polysync_airflow.records import store
from polysync_airflow.triggers import spending
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import Task, crash
from tests.world import CHANGES, RUNS_ON, START, STOP, World

PRICES_OPTION = "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES"
LIMIT_OPTION = "AIRFLOW__POLYSYNC_SAGEMAKER__MAX_COST"
INTERVAL = 10
LISTS: dict[str, Any] = {"progress_interval": INTERVAL, "poll_interval": INTERVAL}
RUN = {"duration": 600}
BOTH_RUN = {"steps": {"Shard0": RUN, "Shard3": RUN}}
CAPACITY_ERROR = "CapacityError: Unable to provision requested ML compute capacity."
FAILS_AT_ONCE = {
    "steps": {
        "Shard0": {"duration": 1, "fail": {"reason": CAPACITY_ERROR, "times": 1}},
        "Shard3": {"duration": 1, "fail": {"reason": CAPACITY_ERROR, "times": 1}},
    }
}
# A job takes 30 seconds until it has instances.
FAILS = {"duration": 150, "fail": {"reason": "AlgorithmError: no data", "times": 99}}


def prices_of(per_second: float) -> str:
    """Return the prices with which both steps together cost so much."""
    per_hour = {"ml.m5.large": 3600 * per_second / 2}
    table = {
        "currency": "USD",
        "date": "2026-11-01",
        "prices": {"us-east-1": per_hour},
    }
    return json.dumps(table)


@pytest.fixture(autouse=True)
def prices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both steps together cost 2 USD a second."""
    monkeypatch.setenv(PRICES_OPTION, prices_of(2))


def render(task: Task, value: Any) -> Task:
    """Prepare the next try, and render its limit as Airflow does."""
    operator = task.prepare_try()
    task.operator = operator.prepare_for_execution()
    task.operator.max_cost = value
    return task


@IN_BOTH_MODES
def test_error_says_what_was_spent(make_task: MakeTask, world: World) -> None:
    """What runs is stopped after at most two more lists."""
    world.control.put_scenario(BOTH_RUN)

    run = make_task(max_cost=30, **LISTS).next_try()

    error = run.error
    assert isinstance(error, PipelineExecutionTooExpensiveError)
    assert 30 <= error.spending.amount < 30 + 2 * INTERVAL * 2
    assert error.spending == Spending.model_validate(run.xcoms["spending"])
    summary = run.xcoms["run"]
    assert summary["status"] == "Stopping"
    assert "of max_cost = 30.00" in summary["message"]
    assert error.spending.per_hour == 2 * 3600
    assert error.spending.dearest_step in ("Shard0", "Shard3")
    assert "costs too much" in str(error)
    assert "After a clear, the cost counts from 0." in str(error)


@pytest.mark.parametrize("deferrable", [True], indirect=True)
def test_jobs_are_kept_in_the_record_again_after_airflow_was_away(
    make_task: MakeTask, world: World, caplog: Any
) -> None:
    """The log of the triggerer says so; the wait, and its limit, go on."""
    world.control.put_scenario(BOTH_RUN)
    errors = [OSError("away"), OSError("away")]

    def read_record(ti: Any) -> Any:
        if errors:
            raise errors.pop()
        return store.read_record(ti)

    world.patch.setattr(spending, "read_record", read_record)
    task = make_task(max_cost=30, **LISTS)

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert caplog.text.count("kept in the record, retrying: OSError: away") == 2
    jobs = {name: len(jobs) for name, jobs in task.record["step_jobs"].items()}
    assert jobs == {"Shard0": 1, "Shard3": 1}


@IN_BOTH_MODES
def test_retry_starts_nothing_when_the_money_is_spent(
    make_task: MakeTask, world: World
) -> None:
    """
    The limit was lowered to what the first try has cost. The XComs are those of its
    execution.
    """
    world.patch.setenv(PRICES_OPTION, prices_of(0.1))
    world.control.put_scenario({"steps": {"Shard0": FAILS, "Shard3": FAILS}})
    task = make_task(max_cost=30, **LISTS)
    task.next_try()
    task.arguments["max_cost"] = 12

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert task.state == "failed"
    assert world.calls(*CHANGES) == [START]
    text = "Nothing was started: An estimated 12.00 USD are spent, of max_cost = 12.00"
    assert text in str(run.error)
    summary = run.xcoms["run"]
    assert text in summary["message"]
    assert summary["execution_arn"] == run.error.execution_arn
    assert summary["state"] == "Failed"
    assert summary["spending"]["amount"] == 12
    assert "console_url" in run.xcoms


@pytest.mark.parametrize(
    ("table", "limit", "option", "problem"),
    [
        ("", 300, "", "hourly_prices has none in us-east-1. The command polysync"),
        ("{}", 300, "", "hourly_prices: currency: Field required"),
        (None, "a lot", "", "max_cost = 'a lot' is not valid: give a number above 0"),
        *(
            (None, value, "", f"max_cost = {value!r} is not valid")
            for value in (-1, "None", "nan", "1e309", True)
        ),
        (None, "", "", "max_cost = '' is no limit, although one was given"),
        (None, None, "0", "[polysync_sagemaker] max_cost = '0' is not valid"),
    ],
)
def test_nothing_is_started_with_a_limit_that_cannot_be_kept(
    table: str | None,
    limit: object,
    option: str,
    problem: str,
    make_task: MakeTask,
    world: World,
) -> None:
    """The error names the argument or the option, and says what is valid."""
    if table is not None:
        world.patch.setenv(PRICES_OPTION, table)
    world.patch.setenv(LIMIT_OPTION, option)

    run = make_task(max_cost=limit, **LISTS).next_try()

    assert isinstance(run.error, ParametersError)
    assert problem in str(run.error)
    assert world.calls(*CHANGES) == []


@IN_BOTH_MODES
@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("on_clear", ["new", "resume"])
def test_limit_that_renders_to_nothing_starts_nothing(
    on_clear: str, value: object, make_task: MakeTask, world: World
) -> None:
    """Neither at first nor after a clear: the error says what to give."""
    world.control.put_scenario(FAILS_AT_ONCE)
    task = make_task(max_cost="{{ params.limit }}", on_clear=on_clear, **LISTS)
    errors = [render(task, value).run_prepared_try().error]
    render(task, 300).run_prepared_try()
    task.clear()
    errors.append(render(task, value).run_prepared_try().error)

    for error in errors:
        assert isinstance(error, ParametersError)
        assert f"max_cost = {value!r} is no limit, although one was given" in str(error)
        assert "leave max_cost out for no limit" in str(error)
    assert world.calls(*CHANGES) == [START]


def test_limit_that_renders_to_nothing_stops_a_start_of_an_earlier_try(
    make_task: MakeTask, world: World
) -> None:
    """It is sent again only to find what it may have started."""
    task = make_task(max_cost="{{ params.limit }}", **LISTS)
    world.requests.before(START, crash)
    render(task, 300).run_prepared_try()
    world.requests.clear()

    run = render(task, None).run_prepared_try()

    assert isinstance(run.error, ParametersError)
    assert world.calls(*CHANGES) == [START, STOP]


@pytest.mark.parametrize(
    ("lost", "value"), [("wait_for_completion", False), ("progress_interval", None)]
)
def test_limit_of_a_task_needs_a_wait_with_lists(
    lost: str, value: bool | None, make_task: MakeTask
) -> None:
    """The DAG file is not imported."""
    with pytest.raises(ParametersError, match=f"max_cost needs {lost}"):
        make_task(max_cost=1, **{**LISTS, lost: value})


@IN_BOTH_MODES
def test_lower_limit_of_the_deployment_counts_without_lists(
    make_task: MakeTask, world: World
) -> None:
    """The steps are then listed every minute."""
    world.patch.setenv(LIMIT_OPTION, "300")
    world.control.put_scenario(RUNS_ON)

    run = make_task(progress_interval=None).next_try()

    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert run.error.spending.max_cost == 300


@IN_BOTH_MODES
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_log_says_what_goes_on_without_the_limit(
    stop_on_kill: bool, make_task: MakeTask, world: World
) -> None:
    """A try when the prices are gone; after its task, what is not stopped with it."""
    task = make_task(max_cost=1_000_000, stop_on_kill=stop_on_kill, **LISTS)
    if stop_on_kill:
        world.requests.after(START, lambda _: world.patch.setenv(PRICES_OPTION, ""))

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    told = [text for text in texts_of(logs) if "goes on without max_cost" in text]
    assert len(told) == 1
