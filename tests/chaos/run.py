"""
One run of a test case: a DAG run with a pipeline of its own, and the operations on
both.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import variable_key
from sagemaker_emulator.builders import ROLE, definition, step
from tests.chaos import markers
from tests.chaos.deployment.airflow_deployment import AirflowDeployment
from tests.chaos.deployment.kubernetes.pods import Pod
from tests.chaos.group import Group
from tests.system.airflow.client import AirflowError

TASK: Final = "start"
STEPS: Final = ("First", "Second", "Third")
# The queue of the third step, if it is a callback step, has the name of the pipeline.
QUEUES_URL: Final = "https://sqs.us-east-1.amazonaws.com/123456789012/"
ANSWERS: Final = (
    "SendPipelineExecutionStepSuccess",
    "SendPipelineExecutionStepFailure",
)
# What a Celery worker writes to its log about the message of a task: that it received
# it, and that it refuses it.
RECEIVED: Final = "Executing workload in Celery"
REFUSED: Final = "Task already running elsewhere, ignoring redelivered message"
# What the scheduler writes to its log when it fails a task that is only queued again
# after a deferral.
TAKEN_FOR_ENDED: Final = (
    "finished with state success, but the task instance's state attribute is queued"
)
CELERY_ID: Final = re.compile(r"\[([0-9a-f]{8}-[0-9a-f-]{27})\]")
# The progress of a scenario: at each ``yield`` the runner continues the other runs.
Steps = Generator[None, None, None]
# Seconds to wait for a condition. Long, because the machine may be busy.
# A machine that also runs other suites is slow.
DEFAULT_TIMEOUT: Final = 300.0


class UnexpectedStateError(Exception):
    """
    Raised when a condition that the test case requires does not become true in time.
    """


@dataclass(frozen=True)
class Execution:
    """
    An execution as the emulator describes it. Times are Unix times.
    """

    arn: str
    status: str
    started: float
    ended: float | None

    @property
    def running(self) -> bool:
        """Whether the execution still runs, and therefore costs money."""
        return self.ended is None


class Run:
    """
    One run of a test case.

    :param deployment: the deployment.
    :param case: the number of the test case.
    :param number: the number of the run.
    :param seconds: how long each of the pipeline's three steps takes; a scenario may
        change `seconds` later.
    :param hold: whether the third step waits until `release` is called.
    :param group: the runs of the test case that run at the same time, if they go
        through an outage together.
    """

    def __init__(
        self,
        deployment: AirflowDeployment,
        case: str,
        number: int,
        *,
        seconds: float,
        hold: bool = False,
        group: Group | None = None,
    ) -> None:
        self.deployment = deployment
        self.dag_id = f"{deployment.provider}_{case}"
        self.pipeline = f"case-{case}-{number}"
        self.group = group or Group()
        self.group.join(self.pipeline)
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.seconds = seconds
        self.hold = hold
        self._last_step = "Callback" if hold else "Processing"
        self._callback_tokens: dict[str, str] = {}
        # The DAG runs; the first one is that of the test case.
        self.run_ids: list[str] = []
        # The ARNs of executions of other DAG runs, which are not checked.
        self.others: set[str] = set()

    def start(self, **failing: dict[str, Any]) -> None:
        """
        Create the pipeline and trigger the DAG.

        :param failing: members to add to the emulator's scenario of a step, by step.
        """
        self.create_pipeline(**failing)
        self._trigger()

    def start_for_execution(self) -> None:
        """
        Start an execution whose third step is a callback step, as others do, and
        trigger the DAG, which gets it.
        """
        self._last_step = "Callback"
        self.create_pipeline()
        self._trigger(execution_arn=self.start_execution())

    def start_execution(self) -> str:
        """Start an execution, as others do, and return its ARN."""
        response = self.deployment.sagemaker.start_pipeline_execution(
            PipelineName=self.pipeline
        )
        return str(response["PipelineExecutionArn"])

    def start_for_model_package(self) -> str:
        """
        Register a model that waits for its approval, trigger the DAG, which gets it,
        and return its ARN.
        """
        self.create_pipeline()
        sagemaker = self.deployment.sagemaker
        sagemaker.create_model_package_group(ModelPackageGroupName=self.pipeline)
        response = sagemaker.create_model_package(
            ModelPackageGroupName=self.pipeline,
            ModelApprovalStatus="PendingManualApproval",
        )
        arn = str(response["ModelPackageArn"])
        self._trigger(model_package_arn=arn)
        return arn

    def _trigger(self, **conf: str) -> None:
        self.run_ids.append(self.trigger_dag_run(**conf))

    def trigger_dag_run(self, **conf: str) -> str:
        """Trigger a DAG run for the pipeline, and return its id."""
        return self.deployment.client.trigger(
            self.dag_id, conf={"pipeline": self.pipeline, **conf}
        )

    @property
    def _run_id(self) -> str:
        return self.run_ids[0]

    def create_pipeline(self, **failing: dict[str, Any]) -> None:
        """Create the pipeline, and set how its steps behave, see `set_steps`."""
        third = step("Third", self._last_step, "Second")
        if self._last_step == "Callback":
            third["SqsQueueUrl"] = QUEUES_URL + self.pipeline
        text = definition(
            step("First"),
            step("Second", "Processing", "First"),
            third,
            parameters=(
                {"Name": "Value", "Type": "String", "DefaultValue": "default"},
            ),
        )
        self.deployment.sagemaker.create_pipeline(
            PipelineName=self.pipeline, PipelineDefinition=text, RoleArn=ROLE
        )
        self.set_steps(**failing)

    def answers(self) -> list[dict[str, Any]]:
        """Return the calls that answered callback steps of the executions."""
        tokens = {
            token
            for execution in self.executions()
            for token in self._tokens(execution.arn)
        }
        calls = [
            call
            for operation in ANSWERS
            for call in self.deployment.calls.of("", operation)
        ]
        return [
            call for call in calls if call["request"].get("CallbackToken") in tokens
        ]

    def set_steps(self, **failing: dict[str, Any]) -> None:
        """
        Set how the steps of the pipeline's next execution behave: their duration, and
        which of them fail.

        :param failing: members to add to the emulator's scenario of a step, by step.
        """
        steps = {
            name: {"duration": self.seconds, **failing.get(name, {})} for name in STEPS
        }
        if self._last_step == "Callback":
            del steps["Third"]
        self.deployment.emulator.control.put_scenario({"steps": steps}, self.pipeline)

    def wait_for_hold(self) -> Steps:
        """
        Wait until each execution waits in its third step; one that is being stopped may
        be in any step.
        """

        def all_wait() -> bool:
            running = [
                execution for execution in self.executions() if execution.running
            ]
            self._callback_tokens = {
                each.arn: token for each in running for token in self._tokens(each.arn)
            }
            return all(
                each.arn in self._callback_tokens or each.status == "Stopping"
                for each in running
            )

        yield from self.until("all executions wait in their third step", all_wait)

    def release(self) -> None:
        """Complete the third step of the executions that `wait_for_hold` waited for."""
        for token in self._callback_tokens.values():
            self.deployment.sagemaker.send_pipeline_execution_step_success(
                CallbackToken=token
            )

    def until(
        self, name: str, condition: Callable[[], bool], timeout: float = DEFAULT_TIMEOUT
    ) -> Steps:
        """
        Wait for a condition, while the runner continues other runs.

        :param name: describes the condition in the error message.
        :param condition: the condition.
        :param timeout: seconds to wait.
        :raises UnexpectedStateError: if the condition does not become true in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                if condition():
                    return
            except (httpx.TransportError, AirflowError):
                # The API server may be down for some time.
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise UnexpectedStateError(
                    f"not true after {timeout:.0f} s: {name}; {self.state_line()}"
                )
            yield

    def meet(self, point: str, then: Callable[[], None] | None = None) -> Steps:
        """
        Wait until all runs of the group have arrived at a point.

        :param point: the name of the point.
        :param then: an action that only one of the runs takes, when all have arrived.
        """
        yield from self.group.meet(self.pipeline, point, then)

    def require(self, condition: bool, problem: str) -> None:
        """Record a problem if a condition is false."""
        if not condition:
            self.problems.append(problem)

    def marker(self, name: str) -> dict[str, Any] | None:
        """Return the content of a marker file that the task's process wrote."""
        return markers.read(self.deployment.markers, self.pipeline, name)

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the calls of an operation about this run's pipeline."""
        return self.deployment.calls.of(self.pipeline, operation)

    def all_calls(self) -> list[dict[str, Any]]:
        """Return the calls about this run's pipeline."""
        self.deployment.calls.refresh()
        return self.deployment.calls.all(self.pipeline)

    def executions(self) -> list[Execution]:
        """
        Return the executions of the pipeline, oldest first, without those of other DAG
        runs.
        """
        pages = self.deployment.sagemaker.get_paginator(
            "list_pipeline_executions"
        ).paginate(
            PipelineName=self.pipeline,
            SortOrder="Ascending",
            PaginationConfig={"PageSize": 100},
        )
        arns = [
            summary["PipelineExecutionArn"]
            for page in pages
            for summary in page["PipelineExecutionSummaries"]
            if summary["PipelineExecutionArn"] not in self.others
        ]
        return [self._describe(arn) for arn in arns]

    def running_statuses(self) -> list[str]:
        """
        Return the statuses of the executions that still run, including those that are
        stopping.
        """
        return [
            execution.status for execution in self.executions() if execution.running
        ]

    def tasks(self) -> list[dict[str, Any]]:
        """Return the task instances."""
        client = self.deployment.client
        return [
            task
            for run_id in self.run_ids
            for task in client.tasks(self.dag_id, run_id)
        ]

    def records(self) -> set[str]:
        """Return the Variables with the records of the task instances."""
        keys = {
            variable_key(
                TaskKey(
                    self.dag_id, task["dag_run_id"], task["task_id"], task["map_index"]
                )
            )
            for task in self.tasks()
        }
        return keys & self.deployment.variables()

    def task(self) -> dict[str, Any]:
        """Return the only task instance; empty if it does not exist yet."""
        return next(iter(self.tasks()), {})

    def states(self) -> list[str]:
        """Return the state of each task instance."""
        return [task["state"] or "none" for task in self.tasks()]

    def all_in(self, *states: str) -> bool:
        """
        Return whether task instances exist and all of them are in one of the given
        states.
        """
        current = self.states()
        return bool(current) and set(current) <= set(states)

    def dag_run_state(self) -> str:
        """Return the state of the DAG run."""
        return self.deployment.client.run_state(self.dag_id, self._run_id)

    def triggerer(self) -> str | None:
        """
        Return the triggerer that runs the trigger of the deferred task; None if there
        is none.
        """
        return next(iter(self.triggerers()), None)

    def triggerers(self) -> list[str | None]:
        """Return the triggerer of each task instance; None if there is none."""
        jobs = [task.get("triggerer_job") or {} for task in self.tasks()]
        return [self.deployment.triggerer_of(job.get("id")) for job in jobs]

    def pods(self) -> list[Pod]:
        """Return all pods that the task had, the first one first."""
        return self.deployment.cluster.pods.created(
            dag_id=self.dag_id, run_id=self._run_id
        )

    def trigger_log_has(self, text: str) -> bool:
        """Return whether a triggerer wrote a text to the task's log."""
        return self.has(self._logs(), "*.trigger.*.log", text)

    def task_log_has(self, text: str, *, try_number: int) -> bool:
        """Return whether a worker wrote a text to the task's log."""
        return self.has(self._logs(), f"attempt={try_number}.log", text)

    def was_taken_for_ended(self) -> bool:
        """
        Return whether the scheduler has failed a try because it took a deferral for the
        end of the task.

        That happens on a busy machine, if the task is queued again before the scheduler
        handles its deferral (``process_executor_events`` in
        airflow/jobs/scheduler_job_runner.py). The next try goes on.
        """
        log = self.deployment.airflow.home / "scheduler.log"
        lines = log.read_text(errors="replace").splitlines()
        return any(
            TAKEN_FOR_ENDED in line and f"{self.dag_id}.{TASK} {self._run_id}" in line
            for line in lines
        )

    def callback_log_has(self, text: str) -> bool:
        """
        Return whether the DAG processor, which runs the callbacks of dead tasks, wrote
        a text to a log.
        """
        return self.has(self.deployment.logs / "dag_processor", "*.log", text)

    def deliveries(self) -> int:
        """
        Return how many times Celery workers received the message with the run's task;
        of several tries, the most.
        """
        return max(
            (
                self._worker_lines(RECEIVED, celery_id)
                for celery_id in self._celery_ids()
            ),
            default=0,
        )

    def refusals(self) -> int:
        """
        Return how many times a Celery worker refused the run's task, because it runs in
        another process.
        """
        return sum(
            self._worker_lines(REFUSED, celery_id) for celery_id in self._celery_ids()
        )

    def _celery_ids(self) -> set[str]:
        lines = self.deployment.worker_log().splitlines()
        # Celery names the message by an id of its own, and the run only in its content.
        found = (
            CELERY_ID.search(line)
            for line in lines
            if RECEIVED in line and self._run_id in line
        )
        return {match[1] for match in found if match}

    def _worker_lines(self, text: str, celery_id: str) -> int:
        lines = self.deployment.worker_log().splitlines()
        return sum(text in line and celery_id in line for line in lines)

    def _logs(self) -> Path:
        return self.deployment.logs / f"dag_id={self.dag_id}" / f"run_id={self._run_id}"

    @staticmethod
    def has(folder: Path, pattern: str, text: str) -> bool:
        """Return whether a log below a folder has a text."""
        return any(
            text in log.read_text(errors="replace") for log in folder.rglob(pattern)
        )

    def mark_task(self, state: str) -> None:
        """Set the task's state, as a user does in the UI."""
        self.deployment.client.mark_task(self.dag_id, self._run_id, TASK, state)

    def clear(self) -> None:
        """Clear the task, as a user does in the UI."""
        self.deployment.client.clear_task(self.dag_id, self._run_id, TASK)

    def clear_dag_run(self) -> None:
        """Clear the DAG run, as a user does in the UI."""
        self.deployment.client.clear_run(self.dag_id, self._run_id)

    def fail_dag_run(self) -> None:
        """Mark the DAG run as failed, as a user does in the UI."""
        self.deployment.client.mark_run(self.dag_id, self._run_id, "failed")

    def state_line(self) -> str:
        """
        Return one line with the states of the tasks and the statuses of the executions.
        """
        try:
            tasks = ", ".join(
                f"{task['state']} (try {task['try_number']})" for task in self.tasks()
            )
        except (httpx.TransportError, AirflowError) as error:
            tasks = f"unknown (Airflow's API: {error})"
        executions = ", ".join(execution.status for execution in self.executions())
        return f"tasks: {tasks or 'none'}; executions: {executions or 'none'}"

    def step_starts(self, arn: str) -> dict[str, float]:
        """
        Return when each step of an execution started last (Unix time).
        """
        response = self.deployment.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn
        )
        return {
            each["StepName"]: each["StartTime"].timestamp()
            for each in response["PipelineExecutionSteps"]
        }

    def parameters(self, arn: str) -> dict[str, str]:
        """Return the parameters of an execution."""
        response = self.deployment.sagemaker.list_pipeline_parameters_for_execution(
            PipelineExecutionArn=arn
        )
        return {
            entry["Name"]: entry["Value"] for entry in response["PipelineParameters"]
        }

    def _tokens(self, arn: str) -> list[str]:
        """Return the callback tokens of an execution's steps."""
        response = self.deployment.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=arn
        )
        callbacks = [
            each.get("Metadata", {}).get("Callback")
            for each in response["PipelineExecutionSteps"]
        ]
        return [callback["CallbackToken"] for callback in callbacks if callback]

    def _describe(self, arn: str) -> Execution:
        response = self.deployment.sagemaker.describe_pipeline_execution(
            PipelineExecutionArn=arn
        )
        status = str(response["PipelineExecutionStatus"])
        ended = (
            None
            if status in ("Executing", "Stopping")
            else response["LastModifiedTime"].timestamp()
        )
        return Execution(arn, status, response["CreationTime"].timestamp(), ended)


def overlap(executions: Sequence[Execution]) -> float:
    """
    Return the longest time, in seconds, for which two executions ran at the same time
    until now.
    """
    now = time.time()
    ordered = sorted(executions, key=lambda execution: execution.started)
    pairs = [
        (one, other)
        for index, one in enumerate(ordered)
        for other in ordered[index + 1 :]
    ]
    times = (
        min(one.ended or now, other.ended or now) - other.started
        for one, other in pairs
    )
    return max(0.0, *times) if pairs else 0.0
