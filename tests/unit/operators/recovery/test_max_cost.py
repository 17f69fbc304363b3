"""A task with ``max_cost``: two steps run at first, on an instance each."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
    PipelineExecutionTooExpensiveError,
    SageMakerApiError,
)
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.recovery.conftest import MakeTask
from tests.world import CHANGES, LIST_STEPS, RETRY, RUNS_ON, START, STOP, World

PRICES_OPTION = "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES"
LIMIT_OPTION = "AIRFLOW__POLYSYNC_SAGEMAKER__MAX_COST"
INTERVAL = 10
LISTS: dict[str, Any] = {"progress_interval": INTERVAL, "poll_interval": INTERVAL}
RUN = {"duration": 600}
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


@IN_BOTH_MODES
@pytest.mark.parametrize("stop_on_kill", [True, False])
def test_execution_is_stopped_within_two_intervals_after_the_limit(
    stop_on_kill: bool, make_task: MakeTask, world: World
) -> None:
    """One stop, no retry; error, log and XComs say why."""
    world.control.put_scenario({"steps": {"Shard0": RUN, "Shard3": RUN}})
    task = make_task(max_cost="30", stop_on_kill=stop_on_kill, **LISTS)

    run = task.next_try()

    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert task.state == "failed"
    assert world.calls(*CHANGES) == [START, STOP]
    spending = run.xcoms["run"]["spending"]
    assert 30 <= spending["amount"] < 30 + 2 * INTERVAL * 2
    assert spending == run.xcoms["spending"]
    assert spending["per_hour"] == 2 * 3600
    assert spending["dearest_step"] in ("Shard0", "Shard3")
    assert run.xcoms["run"]["stop"]["reason"] == "cost"
    text = str(run.error)
    assert "costs too much" in text
    assert "of max_cost = 30.00" in text
    assert "After a clear, the cost counts from 0." in text


@IN_BOTH_MODES
def test_limit_ends_with_a_task_that_leaves_its_execution_running(
    make_task: MakeTask, world: World
) -> None:
    """With ``stop_on_kill=False``, after the timeout. The log says so at the start."""
    world.control.put_scenario({"steps": {"Shard0": RUN, "Shard3": RUN}})
    task = make_task(max_cost=200, timeout=60, stop_on_kill=False, retries=0, **LISTS)

    with capture_logs() as logs:
        run = task.next_try()
    world.control.advance(1200)

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert world.calls(*CHANGES) == [START]
    assert world.log.statuses == ["Succeeded"]
    told = [text for text in texts_of(logs) if "goes on without max_cost" in text]
    assert len(told) == 1


@IN_BOTH_MODES
@pytest.mark.parametrize("retry_mode", ["new", "resume"])
def test_retries_together_cost_no_more_than_the_limit(
    retry_mode: str,
    make_task: MakeTask,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Each try costs 12 in 120 seconds: under a limit of 30, the third is stopped at 6,
    and none follows. After a clear, the cost counts from 0.
    """
    monkeypatch.setenv(PRICES_OPTION, prices_of(0.1))
    world.control.put_scenario({"steps": {"Shard0": FAILS, "Shard3": FAILS}})
    again = {"new": START, "resume": RETRY}[retry_mode]
    task = make_task(max_cost=30, retries=9, retry_mode=retry_mode, **LISTS)
    errors = [task.next_try().error for _ in range(2)]
    assert [type(error) for error in errors] == [PipelineExecutionFailedError] * 2

    error = task.next_try().error

    assert isinstance(error, PipelineExecutionTooExpensiveError)
    assert error.spending.spent_before == 24
    assert 30 <= error.spending.amount < 30 + 2 * INTERVAL * 0.1
    assert task.state == "failed"
    assert world.calls(*CHANGES) == [START, again, again, STOP]
    task.clear()
    assert isinstance(task.next_try().error, PipelineExecutionFailedError)


@IN_BOTH_MODES
def test_retry_starts_nothing_when_the_money_is_spent(
    make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The limit was lowered to what the first try has cost. The XComs are those of its
    execution.
    """
    monkeypatch.setenv(PRICES_OPTION, prices_of(0.1))
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


@IN_BOTH_MODES
@pytest.mark.parametrize(("max_cost", "times"), [(None, 1), (1_000_000, 2)])
def test_each_job_is_described_once_more_than_without_a_limit(
    max_cost: int | None, times: int, make_task: MakeTask, world: World
) -> None:
    """However often the steps are listed."""
    run = make_task(max_cost=max_cost, **LISTS).next_try()

    assert run.error is None
    assert len(world.calls(LIST_STEPS)) > 20
    described = Counter(
        name
        for call in world.control.calls()
        for member, name in call["request"].items()
        if call["operation"].startswith("Describe") and member.endswith("JobName")
    )
    assert list(described.values()) == [times] * 3


@pytest.mark.parametrize(
    ("table", "limit", "option", "problem"),
    [
        ("", 300, "", "hourly_prices has none in us-east-1"),
        ("{}", 300, "", "hourly_prices: currency: Field required"),
        (None, "a lot", "", "max_cost = 'a lot' is not valid: give a number above 0"),
        (None, -1, "", "max_cost = -1 is not valid"),
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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the argument or the option, and says what is valid."""
    if table is not None:
        monkeypatch.setenv(PRICES_OPTION, table)
    monkeypatch.setenv(LIMIT_OPTION, option)

    run = make_task(max_cost=limit, **LISTS).next_try()

    assert isinstance(run.error, ParametersError)
    assert problem in str(run.error)
    assert world.calls(*CHANGES) == []


@pytest.mark.parametrize("lost", ["wait_for_completion", "progress_interval"])
def test_limit_of_a_task_needs_a_wait_with_lists(
    lost: str, make_task: MakeTask
) -> None:
    """The DAG file is not imported."""
    with pytest.raises(ParametersError, match=f"max_cost needs {lost}"):
        make_task(max_cost=1, **{**LISTS, lost: False if lost[0] == "w" else None})


@IN_BOTH_MODES
def test_lower_limit_of_the_deployment_counts_without_lists(
    make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are then listed every minute."""
    monkeypatch.setenv(LIMIT_OPTION, "300")
    world.control.put_scenario(RUNS_ON)

    run = make_task(progress_interval=None).next_try()

    assert isinstance(run.error, PipelineExecutionTooExpensiveError)
    assert run.error.spending.max_cost == 300


@IN_BOTH_MODES
def test_wait_ends_when_its_steps_may_not_be_listed(
    make_task: MakeTask, world: World
) -> None:
    """Nobody could keep the limit."""
    world.control.put_scenario(RUNS_ON)
    world.deny(LIST_STEPS)

    run = make_task(max_cost=300, retries=0, **LISTS).next_try()

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.operation == LIST_STEPS
    assert world.calls(*CHANGES) == [START, STOP]


@IN_BOTH_MODES
def test_try_goes_on_with_its_execution_when_the_prices_are_gone(
    make_task: MakeTask, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning says so; the execution has no limit then."""
    task = make_task(max_cost=300, **LISTS)
    world.requests.after(START, lambda _: monkeypatch.setenv(PRICES_OPTION, ""))

    with capture_logs() as logs:
        run = task.next_try()

    assert run.error is None
    assert any("goes on without max_cost" in text for text in texts_of(logs))
