"""
AWS's description of a step, validated and bounded, and what each kind of step makes.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStepMetadata.html

Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import isfinite
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from polysync_airflow.execution import models
from polysync_airflow.execution.texts import MAX_VALUE_LENGTH, Count, NameText, ReasonText, clean_value

PROCESSING_LOGS: Final = "/aws/sagemaker/ProcessingJobs"
TRAINING_LOGS: Final = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS: Final = "/aws/sagemaker/TransformJobs"
LAMBDA_LOGS: Final = "/aws/lambda/{name}"


@dataclass(frozen=True, slots=True)
class StepKind:
    """
    A kind of step.

    :param type: the step's type in a pipeline definition.
    :param noun: what the step makes, as the prefix of its outputs: ``training_job`` for ``training_job_arn``.
    :param job_member: the member of the metadata with the ARN of the job.
    :param console: service and page of the job in the AWS console, with ``{name}``; None if it has none.
    :param log_group: the CloudWatch log group of its jobs, with ``{name}``; None if it writes no log.
    :param stream_prefix: the beginning of the names of its log streams, with ``{name}``.
    """

    type: str
    noun: str
    job_member: str = "Arn"
    console: tuple[str, str] | None = None
    log_group: str | None = None
    stream_prefix: str = "{name}/"


_PROCESSING_PAGE: Final = ("sagemaker", "/processing-jobs/{name}")

# By the member of the metadata.
STEP_KINDS: Final[dict[str, StepKind]] = {
    "TrainingJob": StepKind(
        "Training", "training_job", console=("sagemaker", "/jobs/{name}"), log_group=TRAINING_LOGS
    ),
    "ProcessingJob": StepKind(
        "Processing", "processing_job", console=_PROCESSING_PAGE, log_group=PROCESSING_LOGS
    ),
    "TransformJob": StepKind(
        "Transform",
        "transform_job",
        console=("sagemaker", "/transform-jobs/{name}"),
        log_group=TRANSFORM_LOGS,
    ),
    # The names of its training jobs begin with the name of the tuning job.
    "TuningJob": StepKind(
        "Tuning",
        "tuning_job",
        console=("sagemaker", "/hyper-tuning-jobs/{name}"),
        log_group=TRAINING_LOGS,
        stream_prefix="{name}-",
    ),
    "AutoMLJob": StepKind("AutoML", "auto_ml_job", log_group=PROCESSING_LOGS, stream_prefix="{name}-"),
    "QualityCheck": StepKind(
        "QualityCheck", "", "CheckJobArn", console=_PROCESSING_PAGE, log_group=PROCESSING_LOGS
    ),
    "ClarifyCheck": StepKind(
        "ClarifyCheck", "", "CheckJobArn", console=_PROCESSING_PAGE, log_group=PROCESSING_LOGS
    ),
    # A function names its streams by date and instance, not by the caller.
    "Lambda": StepKind(
        "Lambda", "lambda", console=("lambda", "/functions/{name}"), log_group=LAMBDA_LOGS, stream_prefix=""
    ),
    "Model": StepKind("Model", "model", console=("sagemaker", "/models/{name}")),
    "RegisterModel": StepKind("RegisterModel", "model_package"),
    "Endpoint": StepKind("Endpoint", "endpoint", console=("sagemaker", "/endpoints/{name}")),
    "EndpointConfig": StepKind(
        "EndpointConfig", "endpoint_config", console=("sagemaker", "/endpointConfig/{name}")
    ),
    "EMR": StepKind("EMR", "emr"),
    "EMRServerless": StepKind("EMRServerless", "emr_serverless"),
    "BedrockCustomModel": StepKind("BedrockCustomModel", "custom_model"),
    "BedrockCustomModelDeployment": StepKind("BedrockCustomModelDeployment", "custom_model_deployment"),
    "BedrockProvisionedModelThroughput": StepKind(
        "BedrockProvisionedModelThroughput", "provisioned_model_throughput"
    ),
    "BedrockModelImport": StepKind("BedrockModelImport", "model_import"),
    "InferenceComponent": StepKind("InferenceComponent", "inference_component"),
    "Job": StepKind("Job", "job"),
}
# The type of a step that ends its execution as failed.
FAIL: Final = "Fail"
# A person who reads it can end the step in place of the system that should.
_SECRET_MEMBERS: Final = frozenset({"CallbackToken"})
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def outputs_of(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a step made, with the names that the XCom ``outputs`` has.

    ``Arn`` becomes ``<what it is>_arn``, such as ``model_package_arn``; the output parameters become a dict.
    All else keeps AWS's name, in snake case. A kind that this version does not know is treated in the same
    way.

    :param kind: the member of the step's metadata.
    """
    known = STEP_KINDS.get(kind)
    noun = known.noun if known else snake_case(kind)
    outputs: dict[str, Any] = {}
    for member, value in metadata.items():
        if value is None or member in _SECRET_MEMBERS:
            continue
        if member == "Arn":
            outputs[f"{noun}_arn"] = value
        elif member == "OutputParameters" and isinstance(value, list):
            entries = [entry for entry in value if isinstance(entry, Mapping)]
            outputs["output_parameters"] = {
                str(each["Name"]): each.get("Value") for each in entries if "Name" in each
            }
        else:
            outputs[snake_case(member)] = value
    return outputs


def snake_case(name: str) -> str:
    """Return a name of AWS in snake case: ``SqsQueueUrl`` becomes ``sqs_queue_url``."""
    return _WORD.sub("_", name).lower()


# Of the metadata of a step: AWS allows 50 output parameters, and the other kinds have fewer members.
_MAX_ENTRIES: Final = 100
_MAX_VALUES: Final = 250
_MAX_DEPTH: Final = 6


def _bounded(value: Any, depth: int = 0, left: Iterator[int] | None = None) -> Any:
    """Return a part of AWS's metadata as JSON of limited size, with clean texts."""
    left = left or iter(range(_MAX_VALUES))
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        entries = list(islice(value.items(), _MAX_ENTRIES))
        return {
            clean_value(str(name), 256): _bounded(each, depth + 1, left)
            for (name, each), _ in zip(entries, left, strict=False)
        }
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        pairs = zip(value[:_MAX_ENTRIES], left, strict=False)
        return [_bounded(each, depth + 1, left) for each, _ in pairs]
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return value
    return clean_value(value.isoformat() if isinstance(value, datetime) else str(value), MAX_VALUE_LENGTH)


class StepDescription(models.FrozenModel):
    """
    One step of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
    """

    name: NameText = Field(validation_alias="StepName")
    status: str | None = Field(None, validation_alias="StepStatus", pattern=models.STATUS_PATTERN)
    failure_reason: ReasonText | None = Field(None, validation_alias="FailureReason")
    attempt_count: Count = Field(None, validation_alias="AttemptCount")
    started_at: models.ResponseTime = Field(None, validation_alias="StartTime")
    ended_at: models.ResponseTime = Field(None, validation_alias="EndTime")
    cache_hit: bool = False
    is_reused: bool = False
    reused_from: models.ExecutionArn | None = None
    metadata: Annotated[dict[str, Any] | None, BeforeValidator(_bounded)] = Field(
        None, validation_alias="Metadata"
    )

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        cache_hit = data.get("CacheHitResult")
        # A selective execution takes the steps that are not selected from another execution.
        reused = cache_hit or data.get("SelectiveExecutionResult")
        source = reused.get("SourcePipelineExecutionArn") if isinstance(reused, Mapping) else None
        flat: dict[str, Any] = {
            **data,
            "cache_hit": bool(cache_hit),
            "is_reused": bool(reused),
            # A damaged ARN must not hide the step.
            "reused_from": source if models.is_execution_arn(source) else None,
        }
        iteration = data.get("IterationContext")
        if isinstance(iteration, Mapping) and isinstance(iteration.get("Index"), int):
            # The iterations of a ForEach step repeat the names of its steps.
            flat["StepName"] = f"{data.get('StepName')}[{iteration['Index']}]"
        return flat

    @property
    def kind(self) -> str | None:
        """The member of the metadata that is set, which tells the kind of the step."""
        return next((kind for kind, value in (self.metadata or {}).items() if isinstance(value, dict)), None)

    @property
    def outcome(self) -> str | None:
        """The outcome of a condition: ``True`` or ``False``; None if there is none yet."""
        condition = (self.metadata or {}).get("Condition")
        outcome = condition.get("Outcome") if isinstance(condition, dict) else None
        return outcome if isinstance(outcome, str) else None

    @property
    def job_arn(self) -> str | None:
        """The ARN of what the step runs or makes; None if it has none."""
        kind = self.kind
        if kind is None or self.metadata is None:
            return None
        arn = self.metadata[kind].get(STEP_KINDS[kind].job_member if kind in STEP_KINDS else "Arn")
        return arn if isinstance(arn, str) else None

    @property
    def seconds(self) -> float | None:
        """How long the step took; None if it has not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def log_source(step: StepDescription) -> tuple[str, str] | None:
    """
    Return the CloudWatch log group of a step's job, and the beginning of the names of its log streams.

    :return: None if the kind of the step writes no log, or if it has no job yet.
    """
    kind, name = STEP_KINDS.get(step.kind or ""), job_name_of(step)
    if kind is None or name is None or kind.log_group is None:
        return None
    return kind.log_group.format(name=name), kind.stream_prefix.format(name=name)


def job_name_of(step: StepDescription) -> str | None:
    """Return the name of a step's job, which is the end of its ARN; None if it has no job yet."""
    arn = step.job_arn
    if arn is None or not arn.startswith("arn:"):
        return None
    name = arn.split(":", 5)[-1]
    # arn:aws:sagemaker:<region>:<account>:training-job/<name>
    # arn:aws:lambda:<region>:<account>:function:<name>
    return name.partition(":")[2] if name.startswith("function:") else name.partition("/")[2] or None
