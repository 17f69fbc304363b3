"""Owns one run of a row: one DAG run with a pipeline of its own, what is done to it and what is seen of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from tests.chaos import marks
from tests.chaos.deployment import Deployment
from tests.emulator.builders import ROLE, definition, step
from tests.system.airflow_client import AirflowError

TASK: Final = "start"
STEPS: Final = ("First", "Second", "Third")
QUEUE_URL: Final = "https://sqs.us-east-1.amazonaws.com/123456789012/held"
# A script's progress: each ``yield`` lets the other runs go on.
Steps = Generator[None, None, None]
# How long to wait for anything to happen on a machine that others use as well.
PATIENCE: Final = 180.0


class DeviationError(Exception):
    """Something did not happen that the row is about, or that it takes for granted."""


@dataclass(frozen=True)
class Execution:
    """One execution as the emulator tells it; times are in seconds since the epoch."""

    arn: str
    status: str
    started: float
    ended: float | None

    @property
    def running(self) -> bool:
        """Whether it costs money."""
        return self.ended is None


class Run:
    """
    One run of a row.

    :param deployment: where.
    :param row: its number in the table.
    :param number: which repeat.
    :param seconds: how long each of the pipeline's three steps takes, unless ``seconds`` is set anew.
    :param held: whether the third step waits for `release`, however long that takes.
    """

    def __init__(
        self, deployment: Deployment, row: str, number: int, *, seconds: float, held: bool = False
    ) -> None:
        self.deployment = deployment
        self.dag_id = f"{deployment.provider}_{row}"
        self.pipeline = f"row-{row}-{number}"
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.seconds = seconds
        self._last_step = "Callback" if held else "Processing"
        self._held: dict[str, str] = {}
        self._run_id = ""

    def begin(self, **failing: dict[str, Any]) -> None:
        """
        Make the pipeline and trigger the DAG.

        :param failing: members of steps' scenarios, by step.
        """
        text = definition(
            step("First"),
            step("Second", "Processing", "First"),
            step("Third", self._last_step, "Second", SqsQueueUrl=QUEUE_URL),
            parameters=({"Name": "Value", "Type": "String", "DefaultValue": "default"},),
        )
        self.deployment.sagemaker.create_pipeline(
            PipelineName=self.pipeline, PipelineDefinition=text, RoleArn=ROLE
        )
        self.plan(**failing)
        conf = {"pipeline": self.pipeline}
        self._run_id = self.deployment.client.trigger(self.dag_id, conf=conf)

    def plan(self, **failing: dict[str, Any]) -> None:
        """Say how the pipeline's next execution goes: its steps take their time, and some fail."""
        steps = {name: {"duration": self.seconds, **failing.get(name, {})} for name in STEPS}
        if self._last_step == "Callback":
            del steps["Third"]
        self.deployment.emulator.control.put_scenario({"steps": steps}, self.pipeline)

    def await_hold(self) -> Steps:
        """Wait until each execution is held at its third step."""
        arns = [execution.arn for execution in self.executions()]

        def all_wait() -> bool:
            self._held.update((arn, token) for arn in arns for token in self._callback(arn))
            return len(self._held) == len(arns)

        yield from self.until("the executions are held", all_wait)

    def release(self) -> None:
        """Let the executions that `await_hold` has seen come to their ends."""
        for token in self._held.values():
            self.deployment.sagemaker.send_pipeline_execution_step_success(CallbackToken=token)

    def until(self, what: str, condition: Callable[[], bool], timeout: float = PATIENCE) -> Steps:
        """
        Wait, while others go on.

        :param what: what is waited for, for the message.
        :raises DeviationError: if it does not come to be so.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                if condition():
                    return
            except (httpx.TransportError, AirflowError):
                if time.monotonic() > deadline:  # the API server may be down for a while
                    raise
            if time.monotonic() > deadline:
                raise DeviationError(f"after {timeout:.0f} s still not so: {what}; {self.state_line()}")
            yield

    def require(self, fact: bool, otherwise: str) -> None:
        """Note a problem unless something is so."""
        if not fact:
            self.problems.append(otherwise)

    def mark(self, name: str) -> dict[str, Any] | None:
        """Return a mark that the task's process left."""
        return marks.find(self.deployment.marks, self.pipeline, name)

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """List the requests about this run's pipeline."""
        return self.deployment.calls.of(self.pipeline, operation)

    def executions(self) -> list[Execution]:
        """List the pipeline's executions, oldest first."""
        pages = self.deployment.sagemaker.get_paginator("list_pipeline_executions").paginate(
            PipelineName=self.pipeline, SortOrder="Ascending", PaginationConfig={"PageSize": 100}
        )
        arns = [
            entry["PipelineExecutionArn"] for page in pages for entry in page["PipelineExecutionSummaries"]
        ]
        return [self._describe(arn) for arn in arns]

    def unfinished(self) -> list[str]:
        """Tell the statuses of the executions that run, those that are being stopped included."""
        return [execution.status for execution in self.executions() if execution.running]

    def tasks(self) -> list[dict[str, Any]]:
        """List the task instances."""
        return self.deployment.client.tasks(self.dag_id, self._run_id)

    def task(self) -> dict[str, Any]:
        """Return the one task instance; empty if it is not yet there."""
        return next(iter(self.tasks()), {})

    def states(self) -> list[str]:
        """Tell each task instance's state."""
        return [task["state"] or "none" for task in self.tasks()]

    def all_in(self, *states: str) -> bool:
        """Tell whether there are task instances, and all are in one of the states."""
        now = self.states()
        return bool(now) and set(now) <= set(states)

    def dag_run_state(self) -> str:
        """Tell the state of the DAG run."""
        return self.deployment.client.run_state(self.dag_id, self._run_id)

    def triggerer(self) -> str | None:
        """Tell which triggerer has the trigger of the deferred task."""
        return self.deployment.triggerer_of((self.task().get("triggerer_job") or {}).get("id"))

    def trigger_log_has(self, text: str) -> bool:
        """Tell whether a triggerer logged a text about the task."""
        logs = self.deployment.logs / f"dag_id={self.dag_id}" / f"run_id={self._run_id}"
        return any(text in log.read_text(errors="replace") for log in logs.rglob("*.trigger.*.log"))

    def mark_task(self, state: str) -> None:
        """Set the task's state, as a person does."""
        self.deployment.client.mark_task(self.dag_id, self._run_id, TASK, state)

    def clear(self) -> None:
        """Have the task executed again, as a person does."""
        self.deployment.client.clear_task(self.dag_id, self._run_id, TASK)

    def fail_dag_run(self) -> None:
        """Set the DAG run's state to failed, as a person does."""
        self.deployment.client.mark_run(self.dag_id, self._run_id, "failed")

    def state_line(self) -> str:
        """Tell in a line how things are."""
        try:
            tasks = ", ".join(f"{task['state']} (try {task['try_number']})" for task in self.tasks())
        except (httpx.TransportError, AirflowError) as error:
            tasks = f"unknown, as Airflow's API says {error}"
        executions = ", ".join(execution.status for execution in self.executions())
        return f"task {tasks or 'absent'}; executions {executions or 'none'}"

    def step_starts(self, arn: str) -> dict[str, float]:
        """Tell when each step of an execution was last started."""
        answer = self.deployment.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
        return {
            found["StepName"]: found["StartTime"].timestamp() for found in answer["PipelineExecutionSteps"]
        }

    def _callback(self, arn: str) -> list[str]:
        answer = self.deployment.sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
        metadata = [found.get("Metadata", {}).get("Callback") for found in answer["PipelineExecutionSteps"]]
        return [callback["CallbackToken"] for callback in metadata if callback]

    def parameters(self, arn: str) -> dict[str, str]:
        """Return the values that an execution was given."""
        answer = self.deployment.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
        return {entry["Name"]: entry["Value"] for entry in answer["PipelineParameters"]}

    def _describe(self, arn: str) -> Execution:
        seen = self.deployment.sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
        status = str(seen["PipelineExecutionStatus"])
        ended = None if status in ("Executing", "Stopping") else seen["LastModifiedTime"].timestamp()
        return Execution(arn, status, seen["CreationTime"].timestamp(), ended)


def overlap(executions: Sequence[Execution]) -> float:
    """Return the longest time, in seconds, for which two executions ran at once; both are as of now."""
    now = time.time()
    ordered = sorted(executions, key=lambda execution: execution.started)
    pairs = [(one, two) for index, one in enumerate(ordered) for two in ordered[index + 1 :]]
    shared = (min(one.ended or now, two.ended or now) - two.started for one, two in pairs)
    return max(0.0, *shared) if pairs else 0.0
