"""
Builds the entries of ListPipelineExecutionSteps.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStepMetadata.html.
Members that the installed botocore does not know are left out, as an older AWS SDK
does. AWS does not document the AttemptCount of a step that reuses results; here it is
0. A step whose result is not from the cache has a CacheHitResult with an empty ARN, as
in AWS's example of a list:
https://docs.aws.amazon.com/sagemaker/latest/dg/run-pipeline.html.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.calls import omit_none
from sagemaker_emulator.sagemaker.jobs.names import (
    arguments_of,
    in_uuid_form,
    job_arn,
    job_name,
    source_of,
    value_of,
)
from sagemaker_emulator.sagemaker.jobs.reports import check_folder, violation_report
from sagemaker_emulator.sagemaker.store import (
    ACCOUNT,
    ExecutionRecord,
    Region,
    partition,
)
from sagemaker_emulator.sagemaker.validation import declared_members

# For each step type with a job: the member of ``Metadata`` that has its ARN only.
_JOBS = {
    "Processing": "ProcessingJob",
    "Training": "TrainingJob",
    "Transform": "TransformJob",
    "Tuning": "TuningJob",
    "AutoML": "AutoMLJob",
    "Model": "Model",
    "Endpoint": "Endpoint",
    "EndpointConfig": "EndpointConfig",
    "InferenceComponent": "InferenceComponent",
}
# For each step type of Amazon Bedrock: the resource type in the ARN.
_BEDROCK = {
    "BedrockCustomModel": "custom-model",
    "BedrockCustomModelDeployment": "custom-model-deployment",
    "BedrockProvisionedModelThroughput": "provisioned-model",
    "BedrockModelImport": "model-import-job",
}
# For each entity of a Lineage step: the member of ``Metadata``, the member with its
# name, the resource type.
_LINEAGE = {
    "Actions": ("ActionArns", "ActionName", "action"),
    "Artifacts": ("ArtifactArns", "ArtifactName", "artifact"),
    "Contexts": ("ContextArns", "ContextName", "context"),
}
_TEXT_LENGTH = 256
_URI_LENGTH = 1024
_ITEM_LENGTH = 12_800
# The maximum numbers of entries in lists and maps of ``Metadata``.
_MAX_ENTITIES = 5
_MAX_ASSOCIATIONS = 10
_MAX_CLEANED_STEPS = 100


@dataclass(frozen=True)
class _Entry:
    """A step of an execution, for the functions that build its metadata."""

    region: Region
    record: ExecutionRecord
    run: StepRun

    @property
    def arguments(self) -> dict[str, Any]:
        return arguments_of(self.record, self.run)

    @property
    def job_name(self) -> str:
        record, run = source_of(self.record, self.run)
        return job_name(self.region, record, run, run.attempt)

    def identifier(self, length: int, kind: str) -> str:
        """Return an id of what the current attempt has created."""
        record, run = source_of(self.record, self.run)
        return self.region.identifier(
            length, record.arn, run.step.name, run.attempt, kind
        )

    def member(self, name: str, length: int = _TEXT_LENGTH) -> str | None:
        """Return the text of a member of the step; None if it is absent."""
        return self.text_of(self.run.step.body.get(name), length)

    def text_of(self, value: Any, length: int = _TEXT_LENGTH) -> str | None:
        """Return the evaluated text of a value; None for no value."""
        evaluated = value_of(self.record, self.run, value)
        if evaluated is None:
            return None
        return text(evaluated)[:length]

    def flag(self, member: str) -> bool:
        """Return whether a member of the step is true."""
        value = value_of(self.record, self.run, self.run.step.body.get(member))
        return text(value).lower() == "true"

    @property
    def outputs(self) -> list[dict[str, str]]:
        """The output parameters of the step."""
        outputs = self.record.engine.scope.outputs.get(self.run.step.name, {})
        return [{"Name": name, "Value": text(value)} for name, value in outputs.items()]


def step_summary(
    region: Region, record: ExecutionRecord, run: StepRun
) -> dict[str, Any]:
    """Return the entry of one step in ``PipelineExecutionSteps``."""
    body = run.step.body
    iteration = run.step.iteration
    selective_result = None
    if run.reused_from:
        selective_result = {"SourcePipelineExecutionArn": run.reused_from}
    summary = omit_none(
        StepName=run.step.name,
        StepDisplayName=body.get("DisplayName"),
        StepDescription=body.get("Description"),
        StartTime=run.started_at,
        EndTime=run.ended_at,
        StepStatus=run.status,
        CacheHitResult=cache_hit_result(run) or {"SourcePipelineExecutionArn": ""},
        FailureReason=run.failure_reason,
        AttemptCount=run.attempt,
        Metadata=declared_members(
            "PipelineExecutionStepMetadata", _metadata(_Entry(region, record, run))
        ),
        SelectiveExecutionResult=selective_result,
    )
    if iteration is not None:
        item = iteration.item
        if not isinstance(item, str):
            item = json.dumps(item)
        summary["IterationContext"] = {
            "ParentStepName": iteration.parent,
            "Index": iteration.index,
            "Item": item[:_ITEM_LENGTH],
        }
    return declared_members("PipelineExecutionStep", summary)


def cache_hit_result(run: StepRun) -> dict[str, str] | None:
    """Return the ``CacheHitResult`` of a run; None if its result is its own."""
    if run.cached is None:
        return None
    return {"SourcePipelineExecutionArn": run.cached.execution_arn}


def _metadata(entry: _Entry) -> dict[str, Any]:
    kind = entry.run.step.type
    if entry.run.refused:
        return {}
    if kind in _JOBS:
        return {_JOBS[kind]: {"Arn": job_arn(entry.region, entry.record, entry.run)}}
    if kind in _BEDROCK:
        region = entry.region.name
        account = f"arn:{partition(region)}:bedrock:{region}:{ACCOUNT}"
        resource = f"{_BEDROCK[kind]}/{entry.identifier(12, 'bedrock')}"
        return {kind: {"Arn": f"{account}:{resource}"}}
    if kind in _BUILDERS:
        return {kind: _BUILDERS[kind](entry)}
    return {}


def _register_model(entry: _Entry) -> dict[str, Any]:
    record, run = source_of(entry.record, entry.run)
    return omit_none(Arn=record.model_packages.get(run.step.name))


def _condition(entry: _Entry) -> dict[str, Any]:
    if entry.run.outcome is None:
        return {}
    return {"Outcome": str(entry.run.outcome)}


def _fail(entry: _Entry) -> dict[str, Any]:
    return {"ErrorMessage": entry.run.error_message or ""}


def _lambda(entry: _Entry) -> dict[str, Any]:
    return omit_none(Arn=entry.member("FunctionArn"), OutputParameters=entry.outputs)


def _callback(entry: _Entry) -> dict[str, Any]:
    return omit_none(
        CallbackToken=entry.run.callback_token,
        SqsQueueUrl=entry.member("SqsQueueUrl"),
        OutputParameters=entry.outputs,
    )


def _emr(entry: _Entry) -> dict[str, Any]:
    cluster = entry.text_of(entry.arguments.get("ClusterId"))
    if not cluster:
        cluster = f"j-{entry.identifier(13, 'cluster').upper()}"
    step = f"s-{entry.identifier(13, 'step').upper()}"
    metadata = {"ClusterId": cluster, "StepId": step, "StepName": entry.job_name}
    if entry.run.status == "Failed":
        # The log with the root cause.
        metadata["LogFilePath"] = (
            f"s3://aws-logs-{ACCOUNT}-{entry.region.name}/elasticmapreduce"
            f"/{cluster}/steps/{step}/stderr.gz"
        )
    return metadata


def _emr_serverless(entry: _Entry) -> dict[str, Any]:
    name = None
    config = entry.arguments.get("JobConfig")
    if isinstance(config, dict):
        name = entry.text_of(config.get("name"))
    application = entry.text_of(entry.arguments.get("ApplicationId"), 64)
    if not application:
        application = f"00{entry.identifier(14, 'application')}"
    job_run = f"00{entry.identifier(14, 'run')}"
    metadata = {
        "ApplicationId": application,
        "JobRunId": job_run,
        "JobRunName": name or entry.job_name,
    }
    if entry.run.status == "Failed":
        metadata["LogFilePath"] = (
            f"s3://aws-logs-{ACCOUNT}-{entry.region.name}/applications"
            f"/{application}/jobs/{job_run}/SPARK_DRIVER/stderr.gz"
        )
    return metadata


def _check(entry: _Entry) -> dict[str, Any]:
    """Return the metadata that both types of check steps have."""
    return omit_none(
        CheckType=entry.member("CheckType"),
        ModelPackageGroupName=entry.member("ModelPackageGroupName"),
        ViolationReport=violation_report(entry.region, entry.record, entry.run),
        CheckJobArn=job_arn(entry.region, entry.record, entry.run),
        SkipCheck=entry.flag("SkipCheck"),
        RegisterNewBaseline=entry.flag("RegisterNewBaseline"),
    )


def _clarify_check(entry: _Entry) -> dict[str, Any]:
    return {**_check(entry), **_baselines(entry, "Constraints", "analysis.json")}


def _quality_check(entry: _Entry) -> dict[str, Any]:
    return {
        **_check(entry),
        **_baselines(entry, "Constraints", "constraints.json"),
        **_baselines(entry, "Statistics", "statistics.json"),
    }


def _baselines(entry: _Entry, kind: str, file: str) -> dict[str, Any]:
    """
    Return the baseline that a check step has calculated, and the one that it has used.

    A check always calculates one. ``RegisterNewBaseline`` decides whether the other one
    is the same, see
    https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-quality-clarify-baseline-lifecycle.html
    """
    calculated = None
    if entry.run.status == "Succeeded" or entry.run.violations:
        calculated = f"{check_folder(entry.region, entry.record, entry.run)}/{file}"
    used = entry.member(f"SuppliedBaseline{kind}", _URI_LENGTH) or calculated
    if calculated and entry.flag("RegisterNewBaseline"):
        used = calculated
    baselines = {
        f"BaselineUsedForDriftCheck{kind}": used,
        f"CalculatedBaseline{kind}": calculated,
    }
    return omit_none(**baselines)


def _lineage(entry: _Entry) -> dict[str, Any]:
    if entry.run.status != "Succeeded":
        return {}
    metadata: dict[str, Any] = {}
    for entities, (member, name_member, resource) in _LINEAGE.items():
        arns: dict[str, str] = {}
        for item in _objects(entry, entities)[:_MAX_ENTITIES]:
            name = text(item.get(name_member) or "unnamed")[:_TEXT_LENGTH]
            arns[name] = _lineage_arn(entry, resource, name)
        if arns:
            metadata[member] = arns
    associations = [
        {
            "SourceArn": _entity_arn(item, "Source"),
            "DestinationArn": _entity_arn(item, "Destination"),
        }
        for item in _objects(entry, "Associations")[:_MAX_ASSOCIATIONS]
    ]
    if associations:
        metadata["Associations"] = associations
    return metadata


def _objects(entry: _Entry, member: str) -> list[dict[str, Any]]:
    items = entry.arguments.get(member)
    if not isinstance(items, list):
        return []
    return [item for item in items if isinstance(item, dict)]


def _lineage_arn(entry: _Entry, resource: str, name: str) -> str:
    if resource == "artifact":
        # AWS names an artifact by a hash.
        name = entry.identifier(32, name)
    return entry.region.arn(resource, name)


def _entity_arn(association: dict[str, Any], end: str) -> str:
    entity = association.get(end)
    if isinstance(entity, dict):
        entity = entity.get("Arn")
    return text(entity)[:_URI_LENGTH]


def _for_each(entry: _Entry) -> dict[str, Any]:
    result = entry.record.engine.loop_result(entry.run)
    if not entry.run.running:
        result["Status"] = entry.run.status
    return result


def _athena(entry: _Entry) -> dict[str, Any]:
    return {"QueryExecutionId": in_uuid_form(entry.identifier(32, "query"))}


def _cleanup(entry: _Entry) -> dict[str, Any]:
    if entry.run.status != "Succeeded":
        return {}
    sources: Any = None
    resources = entry.arguments.get("Resources")
    if isinstance(resources, dict):
        sources = resources.get("S3")
    cleaned = [
        text(source["StepName"])
        for source in sources or ()
        if isinstance(source, dict) and source.get("StepName")
    ]
    return {"CleanedSteps": cleaned[:_MAX_CLEANED_STEPS]}


# For each other step type: the function that builds the member of ``Metadata`` with the
# same name.
_BUILDERS: dict[str, Callable[[_Entry], dict[str, Any]]] = {
    "RegisterModel": _register_model,
    "Condition": _condition,
    "Fail": _fail,
    "Lambda": _lambda,
    "Callback": _callback,
    "EMR": _emr,
    "EMRServerless": _emr_serverless,
    "QualityCheck": _quality_check,
    "ClarifyCheck": _clarify_check,
    "Lineage": _lineage,
    "ForEach": _for_each,
    "Athena": _athena,
    "Cleanup": _cleanup,
}
