"""
Builds the entries of ListPipelineExecutionSteps.

Reference: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
"""

from __future__ import annotations

from typing import Any

from polysync_airflow.emulator.engine.expressions import evaluate, text
from polysync_airflow.emulator.engine.step_runs import StepRun
from polysync_airflow.emulator.sagemaker.calls import omit_none
from polysync_airflow.emulator.sagemaker.store import ExecutionRecord, Region

# For each step type: the member of ``Metadata``, and the resource type in the ARN of the job.
_JOBS = {
    "Processing": ("ProcessingJob", "processing-job"),
    "Training": ("TrainingJob", "training-job"),
    "Transform": ("TransformJob", "transform-job"),
    "Tuning": ("TuningJob", "hyper-parameter-tuning-job"),
    "AutoML": ("AutoMLJob", "automl-job"),
    "Model": ("Model", "model"),
    "RegisterModel": ("RegisterModel", "model-package"),
    "Endpoint": ("Endpoint", "endpoint"),
    "EndpointConfig": ("EndpointConfig", "endpoint-config"),
}
# The maximum length of a job name in AWS's pattern for job ARNs.
_MAX_JOB_NAME_LENGTH = 63


def step_summary(region: Region, record: ExecutionRecord, run: StepRun) -> dict[str, Any]:
    """Return the entry of one step in ``PipelineExecutionSteps``."""
    body = run.step.body
    return omit_none(
        StepName=run.step.name,
        StepDisplayName=body.get("DisplayName"),
        StepDescription=body.get("Description"),
        StartTime=run.started_at,
        EndTime=run.ended_at,
        StepStatus=run.status,
        FailureReason=run.failure_reason,
        AttemptCount=run.attempt,
        Metadata=_metadata(region, record, run),
        SelectiveExecutionResult={"SourcePipelineExecutionArn": run.reused_from} if run.reused_from else None,
    )


def _metadata(region: Region, record: ExecutionRecord, run: StepRun) -> dict[str, Any]:
    kind = run.step.type
    if kind in _JOBS:
        member, resource = _JOBS[kind]
        return {member: {"Arn": region.arn(resource, _job_name(region, record, run))}}
    if kind == "Condition":
        return {"Condition": {} if run.outcome is None else {"Outcome": str(run.outcome)}}
    if kind == "Fail":
        return {"Fail": {"ErrorMessage": run.error_message or ""}}
    outputs = [
        {"Name": k, "Value": text(v)} for k, v in record.engine.scope.outputs.get(run.step.name, {}).items()
    ]
    if kind == "Lambda":
        return {
            "Lambda": omit_none(Arn=_evaluated_member(record, run, "FunctionArn"), OutputParameters=outputs)
        }
    if kind == "Callback":
        return {
            "Callback": omit_none(
                CallbackToken=run.callback_token,
                SqsQueueUrl=_evaluated_member(record, run, "SqsQueueUrl"),
                OutputParameters=outputs,
            )
        }
    return {}


def _evaluated_member(record: ExecutionRecord, run: StepRun, member: str) -> str | None:
    value = run.step.body.get(member)
    return None if value is None else text(evaluate(value, record.engine.scope))[:256]


def _job_name(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    suffix = region.identifier(10, record.arn, run.step.name, run.attempt)
    if run.step.type == "RegisterModel":
        group = evaluate(run.step.arguments.get("ModelPackageGroupName", "emulated"), record.engine.scope)
        return f"{text(group).lower()}/{run.attempt or 1}"[:128]
    start = f"pipelines-{record.id}-{run.step.name}".replace("_", "-")
    return f"{start[: _MAX_JOB_NAME_LENGTH - 11].rstrip('-')}-{suffix}"
