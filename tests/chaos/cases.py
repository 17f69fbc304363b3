"""The table of test cases: title, scenario, and expected outcome of each."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from tests.chaos import scenarios
from tests.chaos.run import Run
from tests.chaos.scenarios import Scenario

# Step duration, in seconds, of executions that do not end during the test unless they are stopped.
LONG: Final = 200.0


@dataclass(frozen=True)
class Expected:
    """
    The expected outcome of each run of a test case.

    :param statuses: the final statuses of the pipeline's executions, in the order of their start.
    :param state: the final state of each task.
    :param tries: the number of tries of each task; None if it does not matter.
    :param stops: whether the executions were stopped by request.
    """

    statuses: tuple[str, ...] = ("Succeeded",)
    state: str = "success"
    tries: int | None = 1
    stops: bool = False


@dataclass(frozen=True)
class Case:
    """
    A test case.

    :param number: the number in the table, also used in the DAG id.
    :param title: the failure that happens.
    :param scenario: how the run goes.
    :param expected: the expected outcome.
    :param seconds: how long each of the pipeline's three steps takes.
    :param exclusive: whether the case affects components that all tasks share. Its runs are made one after the other,
        and their executions end only when the scenario releases them.
    """

    number: str
    title: str
    scenario: Scenario
    expected: Expected
    seconds: float = 5.0
    exclusive: bool = False


SUCCESS_AFTER_RETRY: Final = Expected(tries=2)
STOPPED: Final = ("Stopped",)
REPLACED: Final = Expected(("Stopped", "Succeeded"), tries=2, stops=True)


def _user_marks(state: str) -> Scenario:
    return scenarios.user_ends_task(lambda run: run.mark_task(state))


CASES: Final = (
    Case(
        "1",
        "kill -9 of the task before StartPipelineExecution is sent",
        scenarios.killed_before_start,
        SUCCESS_AFTER_RETRY,
    ),
    Case("2", "kill -9 after AWS processed the start", scenarios.killed_at_kill_point, SUCCESS_AFTER_RETRY),
    Case("3a", "response to the start lost once", scenarios.response_lost(1), Expected()),
    Case(
        "3b",
        "response to the start lost in every attempt of botocore",
        scenarios.response_lost(scenarios.ATTEMPTS),
        Expected(tries=None),
    ),
    Case("4", "kill -9 before the deferral", scenarios.killed_at_kill_point, SUCCESS_AFTER_RETRY),
    Case(
        "5",
        "kill -9 of the worker in the synchronous mode",
        scenarios.worker_killed,
        SUCCESS_AFTER_RETRY,
        seconds=20,
    ),
    Case(
        "6a",
        "kill -9 of the triggerer that polls",
        scenarios.triggerer_signalled(signal.SIGKILL),
        Expected(),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "6b",
        "SIGTERM to the triggerer that polls",
        scenarios.triggerer_signalled(signal.SIGTERM),
        Expected(),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "7",
        "triggerer suspended, then continued",
        scenarios.triggerer_suspended,
        Expected(),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "8a",
        "user marks the deferred task failed",
        _user_marks("failed"),
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Case(
        "8b",
        "user marks the deferred task success",
        _user_marks("success"),
        Expected(STOPPED, stops=True),
        LONG,
    ),
    Case("8c", "user clears the deferred task", scenarios.user_clears, REPLACED, LONG),
    Case(
        "8d",
        "user fails the DAG run of the deferred task",
        scenarios.user_ends_task(Run.fail_dag_run),
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Case(
        "9a",
        "execution_timeout in the deferred mode",
        scenarios.timeout_passes,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Case(
        "9b",
        "execution_timeout in the synchronous mode",
        scenarios.timeout_passes,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Case(
        "9c",
        "dagrun_timeout in the deferred mode",
        scenarios.timeout_passes,
        Expected(STOPPED, "skipped", stops=True),
        LONG,
    ),
    Case(
        "10",
        "third step fails, retry_mode=resume",
        scenarios.failed_and_resumed,
        SUCCESS_AFTER_RETRY,
        seconds=3,
    ),
    Case(
        "11",
        "third step fails, retry_mode=new",
        scenarios.failed_and_started_again,
        Expected(("Failed", "Succeeded"), tries=2),
        3,
    ),
    Case(
        "12",
        "as 2, with other template values in the retry",
        scenarios.killed_with_other_values,
        SUCCESS_AFTER_RETRY,
    ),
    Case(
        "13",
        "all calls throttled for 2 min, 50 deferred tasks",
        scenarios.all_calls_throttled,
        Expected(("Succeeded",) * 50),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "14",
        "API server restarted, 20 deferred tasks",
        scenarios.api_server_restarted,
        Expected(("Succeeded",) * 20),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "15a",
        "worker killed, retries=0, user clears the task",
        scenarios.worker_killed_and_cleared,
        REPLACED,
        LONG,
    ),
    Case(
        "15b",
        "task killed after the start, retries=0, user clears the task",
        scenarios.killed_and_cleared,
        REPLACED,
        LONG,
    ),
    Case(
        "16",
        "worker killed, retries=0, task not cleared",
        scenarios.worker_killed,
        Expected(STOPPED, "failed", stops=True),
        LONG,
    ),
    Case(
        "17a",
        "scheduler and workers killed, deferred mode",
        scenarios.scheduler_killed_while_deferred,
        Expected(),
        seconds=1,
        exclusive=True,
    ),
    Case(
        "17b",
        "scheduler and workers killed, synchronous mode",
        scenarios.scheduler_killed_while_running,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        exclusive=True,
    ),
)
# The test cases that the amazon provider's operators are measured in.
AMAZON_CASES: Final = ("2", "6a", "6b", "8a", "8b", "8c", "8d", "9a", "9b", "9c")
