"""
The test cases about tasks that die, are ended by a user or by a timeout, and about
triggerers.
"""

from __future__ import annotations

import signal
from typing import Final

from tests.chaos.cases.case import (
    FAILED_AND_STOPPED,
    LONG,
    ONLY_CELERY,
    ONLY_LOCAL,
    REPLACED,
    STOPPED,
    SUCCESS_AFTER_RETRY,
    Case,
    Expected,
)
from tests.chaos.deployment.airflow_deployment import EXECUTORS
from tests.chaos.run import Run
from tests.chaos.scenarios import (
    callbacks,
    components,
    executions,
    sensors,
    users,
    workers,
)
from tests.chaos.scenarios.shared import Scenario


def _user_marks(state: str) -> Scenario:
    return users.user_ends_task(lambda run: run.mark_task(state))


# CeleryExecutor makes no difference in the cases that its short run skips. That with
# LocalExecutor skips what takes long, and what unit tests or another case notice as
# well.
TASK_CASES: Final = (
    Case(
        "1",
        "kill -9 of the task before StartPipelineExecution is sent",
        executions.killed_before_start,
        SUCCESS_AFTER_RETRY,
    ),
    Case(
        "2",
        "kill -9 after AWS processed the start",
        executions.killed_at_kill_point,
        SUCCESS_AFTER_RETRY,
    ),
    Case(
        "3a",
        "response to the start lost once",
        executions.response_lost(1),
        Expected(),
        short=(),
    ),
    Case(
        "3b",
        "response to the start lost in every attempt of botocore",
        executions.response_lost(executions.ATTEMPTS),
        Expected(tries=None),
        short=ONLY_LOCAL,
    ),
    Case(
        "4",
        "kill -9 before the deferral",
        executions.killed_at_kill_point,
        SUCCESS_AFTER_RETRY,
        short=ONLY_LOCAL,
    ),
    Case(
        "5",
        "kill -9 of the worker process that runs the task, synchronous mode",
        workers.worker_killed,
        SUCCESS_AFTER_RETRY,
        seconds=20,
    ),
    Case(
        "6a",
        "kill -9 of the triggerer that polls",
        components.triggerer_signalled(signal.SIGKILL),
        Expected(),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "6b",
        "SIGTERM to the triggerer that polls",
        components.triggerer_signalled(signal.SIGTERM),
        Expected(),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "7",
        "triggerer suspended, then continued",
        components.triggerer_suspended,
        Expected(),
        seconds=1,
        exclusive=True,
        short=ONLY_LOCAL,
    ),
    Case(
        "8a",
        "user marks the deferred task failed",
        _user_marks("failed"),
        FAILED_AND_STOPPED,
        LONG,
        short=ONLY_LOCAL,
    ),
    Case(
        "8b",
        "user marks the deferred task success",
        _user_marks("success"),
        # No process of the task runs when it ends.
        Expected(STOPPED, stops=True, forgotten=False),
        LONG,
        short=(),
    ),
    Case("8c", "user clears the deferred task", users.user_clears, REPLACED, LONG),
    Case(
        "8d",
        "user fails the DAG run of the deferred task",
        users.user_ends_task(Run.fail_dag_run),
        FAILED_AND_STOPPED,
        LONG,
        short=ONLY_LOCAL,
    ),
    Case(
        "9a",
        "execution_timeout in the deferred mode",
        executions.timeout_passes,
        FAILED_AND_STOPPED,
        LONG,
        short=ONLY_LOCAL,
    ),
    Case(
        "9b",
        "execution_timeout in the synchronous mode",
        executions.timeout_passes,
        FAILED_AND_STOPPED,
        LONG,
        executors=EXECUTORS,
    ),
    Case(
        "9c",
        "dagrun_timeout in the deferred mode",
        executions.timeout_passes,
        Expected(STOPPED, "skipped", stops=True),
        LONG,
        short=(),
    ),
    Case(
        "10",
        "third step fails, retry_mode=resume",
        executions.failed_and_resumed,
        SUCCESS_AFTER_RETRY,
        seconds=3,
        short=ONLY_LOCAL,
    ),
    Case(
        "11",
        "third step fails, retry_mode=new",
        executions.failed_and_started_again,
        Expected(("Failed", "Succeeded"), tries=2),
        3,
        short=(),
    ),
    Case(
        "12",
        "as 2, with other template values in the retry",
        executions.killed_with_other_values,
        SUCCESS_AFTER_RETRY,
        short=(),
    ),
    Case(
        "13",
        "all calls throttled for 2 min, 50 deferred tasks",
        executions.all_calls_throttled,
        Expected(("Succeeded",) * 50),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "14",
        "API server restarted, 20 deferred tasks",
        components.api_server_restarted,
        Expected(("Succeeded",) * 20),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "15a",
        "as 5, retries=0, user clears the task",
        workers.worker_killed_and_cleared,
        REPLACED,
        LONG,
    ),
    Case(
        "15b",
        "task killed after the start, retries=0, user clears the task",
        executions.killed_and_cleared,
        REPLACED,
        LONG,
        short=(),
    ),
    Case(
        "16a",
        "as 5, retries=0, task not cleared",
        workers.worker_killed,
        FAILED_AND_STOPPED,
        LONG,
    ),
    Case(
        "16b",
        "as 16a, a mapped task",
        workers.worker_killed,
        FAILED_AND_STOPPED,
        LONG,
        short=ONLY_CELERY,
    ),
    Case(
        "17a",
        "scheduler and LocalExecutor's workers killed, deferred mode",
        components.scheduler_killed_while_deferred,
        Expected(),
        seconds=1,
        exclusive=True,
        outage="17a",
        short=(),
    ),
    Case(
        "17b",
        "scheduler and LocalExecutor's workers killed, synchronous mode",
        components.scheduler_killed_while_running,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        exclusive=True,
        outage="17b",
        short=(),
        executors=ONLY_LOCAL,
    ),
    Case(
        "28a",
        "third step fails, retries=0, user clears the task, on_clear=resume",
        executions.failed_cleared_and_resumed,
        SUCCESS_AFTER_RETRY,
        seconds=3,
        short=ONLY_LOCAL,
    ),
    Case(
        "28b",
        "as 28a with a retry, the cleared try is killed at its resume",
        executions.resume_killed_and_retried,
        Expected(tries=4),
        seconds=3,
        short=ONLY_CELERY,
    ),
    Case(
        "40a",
        "kill -9 of the task before it answers a callback step",
        callbacks.killed_at_answer,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        short=ONLY_LOCAL,
    ),
    Case(
        "40b",
        "kill -9 after AWS processed the answer to a callback step",
        callbacks.killed_at_answer,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        short=ONLY_LOCAL,
    ),
    Case(
        "40c",
        "kill -9 of the task while the function for a callback step runs",
        callbacks.killed_while_serving,
        SUCCESS_AFTER_RETRY,
        seconds=1,
        short=ONLY_CELERY,
    ),
    Case(
        "41a",
        "kill -9 of the triggerer in which a sensor looks for an execution",
        sensors.killed_while_looking,
        Expected(),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "41b",
        "kill -9 of the triggerer in which a sensor waits for an execution",
        sensors.killed_while_waiting,
        Expected(),
        seconds=1,
        exclusive=True,
        short=(),
    ),
    Case(
        "41c",
        "kill -9 of the triggerer in which a sensor waits for the approval of a model",
        sensors.killed_before_approval,
        Expected(statuses=()),
        exclusive=True,
        short=(),
    ),
)
