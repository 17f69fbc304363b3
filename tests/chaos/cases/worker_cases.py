"""
The test cases about workers that die, freeze or shut down, and about outages of what
all components share.
"""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.case import (
    FAILED_AND_STOPPED,
    LOCAL_AND_CELERY,
    LONG,
    ONLY_CELERY,
    REPLACED,
    STOPPED,
    SUCCESS_AFTER_RETRY,
    Case,
    Expected,
)
from tests.chaos.deployment.airflow_deployment import EXECUTORS
from tests.chaos.scenarios import components, users, workers
from tests.chaos.scenarios.shared import Scenario


def _alone(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    *,
    executors: tuple[str, ...] = ONLY_CELERY,
    short: tuple[str, ...] = (),
    together: bool = True,
    seconds: float = 1,
) -> Case:
    """Return a test case that affects what all tasks share."""
    return Case(
        number,
        title,
        scenario,
        expected,
        seconds,
        exclusive=True,
        outage=number if together else "",
        short=short,
        executors=executors,
    )


WORKER_CASES: Final = (
    _alone(
        "17c",
        "scheduler killed, task waits in a Celery worker",
        components.scheduler_killed_while_celery_runs,
        Expected(),
    ),
    _alone(
        "18a",
        "whole worker killed while the start is in flight",
        workers.worker_killed_during_start,
        SUCCESS_AFTER_RETRY,
    ),
    _alone(
        "18b",
        "whole worker killed after AWS processed the start",
        workers.worker_killed_after_start,
        SUCCESS_AFTER_RETRY,
    ),
    _alone(
        "19a",
        "whole worker killed, synchronous mode",
        workers.whole_worker_killed,
        SUCCESS_AFTER_RETRY,
        short=ONLY_CELERY,
    ),
    _alone(
        "19b",
        "as 19a, retries=0",
        workers.whole_worker_killed_without_retries,
        FAILED_AND_STOPPED,
        seconds=LONG,
    ),
    _alone(
        "20a",
        "warm shutdown (SIGTERM) of the worker, synchronous mode",
        workers.worker_shut_down_warm,
        Expected(),
        short=ONLY_CELERY,
    ),
    _alone(
        "20b",
        "cold shutdown (SIGQUIT) of the worker, synchronous mode",
        workers.worker_shut_down_cold,
        SUCCESS_AFTER_RETRY,
    ),
    _alone(
        "21a",
        "worker frozen while the start is in flight, synchronous mode",
        workers.frozen_during_start,
        SUCCESS_AFTER_RETRY,
        executors=LOCAL_AND_CELERY,
    ),
    _alone(
        "21b",
        "worker frozen while the start is in flight, deferred mode",
        workers.frozen_during_start,
        SUCCESS_AFTER_RETRY,
        executors=LOCAL_AND_CELERY,
    ),
    _alone(
        "21c",
        "worker frozen in the wait, synchronous mode",
        workers.frozen_during_wait,
        SUCCESS_AFTER_RETRY,
        executors=LOCAL_AND_CELERY,
    ),
    Case(
        "22a",
        "user clears the running task, synchronous mode",
        users.user_clears_running,
        REPLACED,
        LONG,
        executors=EXECUTORS,
    ),
    Case(
        "22b",
        "as 22a, and fails the DAG run at once",
        users.user_clears_running_and_fails_run,
        Expected(STOPPED, "skipped", tries=None, stops=True),
        LONG,
    ),
    Case(
        "22c",
        "user marks the running task failed, synchronous mode",
        users.user_marks_running,
        FAILED_AND_STOPPED,
        LONG,
        executors=EXECUTORS,
    ),
    _alone(
        "23a",
        "broker killed and restarted, deferred mode",
        components.broker_killed,
        Expected(),
    ),
    _alone(
        "23b",
        "broker killed and restarted, synchronous mode",
        components.broker_killed,
        Expected(),
    ),
    _alone(
        "24",
        "message redelivered after the visibility timeout",
        workers.message_redelivered,
        Expected(),
    ),
    _alone(
        "25a",
        "database away for 20 s, deferred mode",
        components.database_killed,
        Expected(),
        executors=LOCAL_AND_CELERY,
    ),
    _alone(
        "25b",
        "database away for 20 s, synchronous mode",
        components.database_killed,
        Expected(tries=None),
        executors=LOCAL_AND_CELERY,
    ),
    _alone(
        "26",
        "both triggerers dead for 60 s",
        components.triggerers_dead,
        Expected(),
        executors=LOCAL_AND_CELERY,
    ),
    _alone(
        "27",
        "fan-out of 50 deferred tasks",
        components.many_tasks,
        Expected(("Succeeded",) * 50),
        executors=LOCAL_AND_CELERY,
        together=False,
    ),
)
