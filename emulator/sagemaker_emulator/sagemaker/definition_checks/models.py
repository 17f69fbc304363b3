"""
The shapes of what steps do, in botocore's service models.

An older botocore may lack an operation. What it describes is then not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import botocore.session
from botocore.model import OperationNotFoundError, ServiceModel, Shape, StructureShape

from sagemaker_emulator.sagemaker.validation import service_model


class Job(NamedTuple):
    """
    What a step of a type starts.

    :param operation: the operation of SageMaker that starts it.
    :param name: the member that has its name. The pipeline chooses the name, so it is
        not required.
    :param descriptions: the operations whose answers have the properties of the step.
    """

    operation: str
    name: str
    descriptions: tuple[str, ...]


_JOBS: Mapping[str, Job] = {
    "Processing": Job(
        "CreateProcessingJob", "ProcessingJobName", ("DescribeProcessingJob",)
    ),
    "Training": Job("CreateTrainingJob", "TrainingJobName", ("DescribeTrainingJob",)),
    "Transform": Job(
        "CreateTransformJob", "TransformJobName", ("DescribeTransformJob",)
    ),
    "Tuning": Job(
        "CreateHyperParameterTuningJob",
        "HyperParameterTuningJobName",
        (
            "DescribeHyperParameterTuningJob",
            "ListTrainingJobsForHyperParameterTuningJob",
        ),
    ),
    "AutoML": Job(
        "CreateAutoMLJob",
        "AutoMLJobName",
        ("DescribeAutoMLJob", "DescribeAutoMLJobV2"),
    ),
    "Model": Job("CreateModel", "ModelName", ("DescribeModel",)),
    "RegisterModel": Job("CreateModelPackage", "", ("DescribeModelPackage",)),
    "Endpoint": Job("CreateEndpoint", "EndpointName", ("DescribeEndpoint",)),
    "EndpointConfig": Job(
        "CreateEndpointConfig", "EndpointConfigName", ("DescribeEndpointConfig",)
    ),
    "InferenceComponent": Job(
        "CreateInferenceComponent",
        "InferenceComponentName",
        ("DescribeInferenceComponent",),
    ),
    "Job": Job("CreateJob", "JobName", ("DescribeJob",)),
}
_JOBS = {
    **_JOBS,
    "QualityCheck": _JOBS["Processing"],
    "ClarifyCheck": _JOBS["Processing"],
}
_AUTOML_V2 = Job("CreateAutoMLJobV2", "AutoMLJobName", ())
_V2_MEMBERS = ("AutoMLJobInputDataConfig", "AutoMLProblemTypeConfig")


def job_of(kind: str, arguments: Mapping[str, Any]) -> Job | None:
    """
    Return what a step starts; None if its arguments are no request of SageMaker.

    :param kind: the type of the step.
    :param arguments: its arguments.
    """
    if kind == "AutoML" and any(member in arguments for member in _V2_MEMBERS):
        return _AUTOML_V2
    return _JOBS.get(kind)


@cache
def request_shape(operation: str) -> StructureShape | None:
    """Return the shape of a request to SageMaker; None if botocore lacks it."""
    try:
        return _structure(service_model().operation_model(operation).input_shape)
    except OperationNotFoundError:
        return None


@cache
def described_shapes(kind: str) -> tuple[StructureShape, ...]:
    """
    Return the shapes that have the properties of a type of step; none if it has none.
    """
    if kind == "EMR":
        return (emr_structure("Step"),)
    job = _JOBS.get(kind)
    if job is None:
        return ()
    shapes = []
    for operation in job.descriptions:
        with suppress(OperationNotFoundError):
            model = service_model().operation_model(operation)
            shapes.append(_structure(model.output_shape))
    return tuple(shapes)


def emr_structure(name: str) -> StructureShape:
    """Return a structure of EMR."""
    return _structure(_emr_model().shape_for(name))


def _structure(shape: Shape | None) -> StructureShape:
    if not isinstance(shape, StructureShape):
        raise TypeError(f"{shape} is not a structure")
    return shape


@cache
def _emr_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("emr")
