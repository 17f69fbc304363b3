"""
One run of a test case in which the task runs a training job, with the operator of
either provider. What is counted are the jobs, as DescribeTrainingJob describes them.
"""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import ClientError

from tests.chaos.deployment import training_jobs
from tests.chaos.run import TASK, Execution, Run, Steps

# What a run of a pipeline calls these statuses and operations.
STATUSES: Final = {"InProgress": "Executing", "Completed": "Succeeded"}
OPERATIONS: Final = {
    "StartPipelineExecution": training_jobs.CREATE,
    "DescribePipelineExecution": training_jobs.DESCRIBE,
    "StopPipelineExecution": training_jobs.STOP,
}
# A job cannot wait until it is released: it takes longer than an outage.
HELD_SECONDS: Final = 90.0


class JobRun(Run):
    """One run of a test case. It has training jobs in place of executions."""

    def create_pipeline(self, **failing: dict[str, Any]) -> None:
        """Only set how the job behaves: the task makes it, and its pipeline."""
        self.set_steps(**failing)

    def set_steps(self, **failing: dict[str, Any]) -> None:
        """Set how long the next job takes: as long as the steps of a pipeline."""
        seconds = HELD_SECONDS if self.hold else 3 * self.seconds
        if jobs := self.deployment.training_jobs:
            jobs.seconds[self.pipeline] = seconds
            return
        steps = {TASK: {"duration": seconds, **failing}}
        self.deployment.emulator.control.put_scenario({"steps": steps}, self.pipeline)

    def wait_for_hold(self) -> Steps:
        """Wait for nothing."""
        yield

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the calls of an operation about this run's pipeline or jobs."""
        if jobs := self.deployment.training_jobs:
            return jobs.calls(self.pipeline, OPERATIONS[operation])
        return super().calls(operation)

    def executions(self) -> list[Execution]:
        """Return the jobs, oldest first."""
        jobs = self.deployment.training_jobs
        found = jobs.of(self.pipeline) if jobs else self._jobs_of_steps()
        return [_execution(job) for job in found]

    def _jobs_of_steps(self) -> list[dict[str, Any]]:
        client = self.deployment.sagemaker
        try:
            arns = [execution.arn for execution in super().executions()]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFound":
                raise
            # The task has not made its pipeline yet.
            return []
        names = [
            each["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
            for arn in arns
            for each in client.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
                "PipelineExecutionSteps"
            ]
            if "TrainingJob" in each.get("Metadata", {})
        ]
        return [client.describe_training_job(TrainingJobName=name) for name in names]


def _execution(job: dict[str, Any]) -> Execution:
    status = job["TrainingJobStatus"]
    return Execution(
        job["TrainingJobArn"],
        STATUSES.get(status, status),
        _unix_time(job["CreationTime"]),
        _unix_time(job["TrainingEndTime"]) if "TrainingEndTime" in job else None,
    )


def _unix_time(value: Any) -> float:
    """Return a time as Unix time, also one that boto3 has read."""
    return float(value if isinstance(value, int | float) else value.timestamp())
