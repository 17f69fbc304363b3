"""
What each kind of step makes: the table of botocore's ``PipelineExecutionStepMetadata``.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStepMetadata.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

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
