"""
Small pipelines for tests and experiments that need no SDK: the text of a definition,
and its steps.

::

    text = definition(step("Prepare"), step("Train", "Training", "Prepare"))
    client.create_pipeline(PipelineName="demo", PipelineDefinition=text, RoleArn=ROLE)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from sagemaker_emulator.sagemaker.store import ACCOUNT, DEFAULT_ROLE, DEFAULT_SESSION

#: The role that the emulator has from the start.
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/{DEFAULT_ROLE}"
#: Who calls with an access key that nobody has.
CALLER: Final = f"arn:aws:sts::{ACCOUNT}:assumed-role/{DEFAULT_ROLE}/{DEFAULT_SESSION}"


_IMAGE: Final = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/image:1"
_INSTANCES: Final = {
    "InstanceCount": 1,
    "InstanceType": "ml.m5.large",
    "VolumeSizeInGB": 30,
}
_S3_SOURCE: Final = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data"}
_PROCESSING: Final = {
    "AppSpecification": {"ImageUri": _IMAGE},
    "ProcessingResources": {"ClusterConfig": _INSTANCES},
    "RoleArn": ROLE,
}
_TRAINING: Final = {
    "AlgorithmSpecification": {"TrainingImage": _IMAGE, "TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
    "ResourceConfig": _INSTANCES,
    "RoleArn": ROLE,
    "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
}
# By the type of the step: the arguments without which AWS refuses it.
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Processing": _PROCESSING,
    "QualityCheck": _PROCESSING,
    "ClarifyCheck": _PROCESSING,
    "Training": _TRAINING,
    "Tuning": {
        "HyperParameterTuningJobConfig": {
            "ResourceLimits": {"MaxParallelTrainingJobs": 1},
            "Strategy": "Bayesian",
        },
        "TrainingJobDefinition": _TRAINING,
    },
    "Transform": {
        "ModelName": "model",
        "TransformInput": {"DataSource": {"S3DataSource": _S3_SOURCE}},
        "TransformOutput": {"S3OutputPath": "s3://bucket/scores"},
        "TransformResources": {"InstanceCount": 1, "InstanceType": "ml.m5.large"},
    },
    "AutoML": {
        "AutoMLJobConfig": {"Mode": "ENSEMBLING"},
        "InputDataConfig": [
            {"DataSource": {"S3DataSource": _S3_SOURCE}, "TargetAttributeName": "y"}
        ],
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
        "RoleArn": ROLE,
    },
    "Model": {"ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": _IMAGE}},
    "Endpoint": {"EndpointConfigName": "config"},
    "EndpointConfig": {
        "ProductionVariants": [{"ModelName": "model", "VariantName": "all"}]
    },
    "InferenceComponent": {"EndpointName": "endpoint"},
    "EMR": {
        "ClusterId": "j-1ABCDEFGHIJKL",
        "StepConfig": {"HadoopJarStep": {"Jar": "command-runner.jar"}},
    },
    "EMRServerless": {
        "ApplicationId": "00abcdefg",
        "ExecutionRoleArn": ROLE,
        "JobConfig": {},
    },
    "Fail": {"ErrorMessage": "This step fails"},
}
# By the type of the step: its other members without which AWS refuses it.
_MEMBERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Callback": {"SqsQueueUrl": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/queue"},
    "ClarifyCheck": {"CheckType": "DATA_BIAS"},
    "Lambda": {"FunctionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:work"},
    "QualityCheck": {"CheckType": "DATA_QUALITY"},
}


def definition(
    *steps: Mapping[str, Any], parameters: tuple[Mapping[str, Any], ...] = ()
) -> str:
    """
    Return the text of a pipeline definition.

    :param steps: the steps, as ``step`` returns them.
    :param parameters: the parameters of the pipeline, such as ``{"Name": "Score",
        "Type": "Float"}``.
    """
    return json.dumps(
        {"Version": "2020-12-01", "Parameters": parameters, "Steps": steps}
    )


def step(
    name: str, kind: str = "Processing", *after: str, **members: Any
) -> dict[str, Any]:
    """
    Return a step that AWS accepts.

    :param name: its name.
    :param kind: its type, such as ``Training``.
    :param after: the names of the steps that it depends on.
    :param members: its other members in the definition. ``Arguments`` are added to
        those without which AWS refuses a step of this type.
    """
    arguments = members.pop("Arguments", {})
    if isinstance(arguments, dict):
        arguments = {**deepcopy(_ARGUMENTS.get(kind, {})), **arguments}
    return {
        "Name": name,
        "Type": kind,
        "Arguments": arguments,
        "DependsOn": list(after),
        **_MEMBERS.get(kind, {}),
        **members,
    }
