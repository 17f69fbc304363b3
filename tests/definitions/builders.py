"""
Makes pipeline definitions from the rows of ``real_structures.toml``, which describes
the structure of real ones.

A definition has the members that the SageMaker Python SDK writes (``to_request`` of its
steps). AWS's schema at
https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
lacks some of them,
such as ``PropertyFiles`` and ``PipelineExperimentConfig``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/Role"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1"
BUCKET = "s3://bucket"
TYPES = {str: "String", bool: "Boolean", int: "Integer", float: "Float"}
# The ends of references to what is in S3. Others are values.
LOCATIONS = (".S3ModelArtifacts", ".S3Uri", ".S3OutputPath", "']")
RETRIES = [
    {
        "ExceptionType": ["Step.THROTTLING"],
        "IntervalSeconds": 1,
        "BackoffRate": 2.0,
        "MaxAttempts": 3,
    }
]

Json = dict[str, Any]


@dataclass(frozen=True)
class Structure:
    """
    A row: the structure of a pipeline in a public repository.

    :param name: the name of the pipeline.
    :param parameters: the parameters by name, each with ``type``, and ``default`` if it
        has one.
    :param steps: the steps by name, of all levels.
    """

    name: str
    parameters: Mapping[str, Json]
    steps: Mapping[str, Json]

    @property
    def conditions(self) -> list[str]:
        """The names of the Condition steps."""
        return [
            name for name, step in self.steps.items() if step["type"] == "Condition"
        ]

    def branch_of(self, name: str) -> tuple[str, bool] | None:
        """
        Return the Condition step that a step is in, and whether it is in its ``if``;
        None at the top level.
        """
        for condition in self.conditions:
            for branch in ("if", "else"):
                if name in self.steps[condition][branch]:
                    return condition, branch == "if"
        return None

    def definition(self) -> str:
        """Return the JSON of the definition."""
        document = {
            "Version": "2020-12-01",
            "Metadata": {},
            "Parameters": [
                _parameter(name, each) for name, each in self.parameters.items()
            ],
            "PipelineExperimentConfig": {
                "ExperimentName": {"Get": "Execution.PipelineName"},
                "TrialName": {"Get": "Execution.PipelineExecutionId"},
            },
            "Steps": [
                self._step(name) for name in self.steps if self.branch_of(name) is None
            ],
        }
        return json.dumps(document)

    def needs(self, name: str) -> set[str]:
        """
        Return the names of the steps that a step depends on: those of ``after``, and
        those that it refers to.
        """
        step = self.steps[name]
        words = [use.partition(".")[0] for use in step.get("uses", ())]
        return {
            *step.get("after", ()),
            *words,
            *_steps_in(step.get("conditions", ())),
        } & self.steps.keys()

    def references(self, name: str) -> list[str]:
        """Return what a step refers to."""
        return [self._get(use)["Get"] for use in self.steps[name].get("uses", ())]

    def _step(self, name: str) -> Json:
        step = self.steps[name]
        body: Json = {"Name": name, "Type": step["type"]}
        if step["type"] == "Condition":
            body["Arguments"] = {
                "Conditions": [self._condition(*each) for each in step["conditions"]],
                "IfSteps": [self._step(each) for each in step["if"]],
                "ElseSteps": [self._step(each) for each in step["else"]],
            }
        else:
            uses = _Uses(
                name,
                [self._get(use) for use in step.get("uses", ())],
                step.get("outputs", 0),
            )
            body |= _MEMBERS["Function" if step.get("function") else step["type"]](uses)
        if "after" in step:
            body["DependsOn"] = step["after"]
        if "files" in step:
            body["PropertyFiles"] = [
                {
                    "PropertyFileName": file,
                    "OutputName": output,
                    "FilePath": "report.json",
                }
                for file, output in step["files"].items()
            ]
        if "cache" in step:
            expiry = {} if step["cache"] is True else {"ExpireAfter": step["cache"]}
            body["CacheConfig"] = {"Enabled": True, **expiry}
        return {**body, "RetryPolicies": RETRIES} if step.get("retry") else body

    def _get(self, use: str) -> Json:
        """Return the reference for a word of ``uses``."""
        name, _, member = use.partition(".")
        if name not in self.steps:
            return {"Get": use}
        if member == "model":
            return {"Get": f"Steps.{name}.ModelArtifacts.S3ModelArtifacts"}
        if not re.fullmatch(r"out\d+", member):
            return {"Get": f"Steps.{use}"}
        if self.steps[name]["type"] in ("Lambda", "Callback"):
            return {"Get": f"Steps.{name}.OutputParameters['{member}']"}
        return {
            "Get": f"Steps.{name}.ProcessingOutputConfig.Outputs['{member}'].S3Output.S3Uri"
        }

    def _condition(self, kind: str, left: Any, right: Any) -> Json:
        return {
            "Type": kind,
            "LeftValue": self._operand(left),
            "RightValue": self._operand(right),
        }

    def _operand(self, operand: Any) -> Any:
        if isinstance(operand, str) and operand.startswith("Parameters."):
            return {"Get": operand}
        if not isinstance(operand, dict):
            return operand
        step, path = operand["step"], operand.get("path")
        if "file" in operand:
            file = {"Get": f"Steps.{step}.PropertyFiles.{operand['file']}"}
            return {"Std:JsonGet": {"PropertyFile": file, "Path": path}}
        folder = {"Get": f"Steps.{step}.OutputDataConfig.S3OutputPath"}
        return {
            "Std:JsonGet": {
                "S3Uri": _join("/", folder, "results.json"),
                "Path": f"Result['{operand['result']}']",
            }
        }


def read_structures() -> dict[str, Structure]:
    """Return the rows by the names of their pipelines."""
    return {row["name"]: _structure(row) for row in read_rows()["pipelines"]}


def read_rows() -> Json:
    """Return the content of the file."""
    return tomllib.loads(Path(__file__).with_name("real_structures.toml").read_text())


def _structure(row: Json) -> Structure:
    parameters = {}
    for entry in row.get("parameters", ()):
        ((name, value),) = entry.items()
        parameters[name] = (
            value
            if isinstance(value, dict)
            else {"type": TYPES[type(value)], "default": value}
        )
    return Structure(
        row["name"], parameters, {step["name"]: step for step in row["steps"]}
    )


def _parameter(name: str, parameter: Json) -> Json:
    default = {"DefaultValue": parameter["default"]} if "default" in parameter else {}
    return {"Name": name, "Type": parameter["type"], **default}


def _steps_in(operand: Any) -> Iterator[str]:
    """Yield the names of the steps that conditions refer to."""
    if isinstance(operand, dict):
        yield operand["step"]
    elif isinstance(operand, list):
        for each in operand:
            yield from _steps_in(each)


def _join(separator: str, *values: Any) -> Json:
    return {"Std:Join": {"On": separator, "Values": list(values)}}


class _Uses:
    """
    What the arguments of a step refer to, and where each reference belongs.

    :param name: the name of the step.
    :param references: the references, in the order of the row.
    :param outputs: how many outputs the step has.
    """

    def __init__(self, name: str, references: list[Json], outputs: int) -> None:
        self.name = name
        self.outputs = [f"out{number}" for number in range(1, outputs + 1)]
        self._left = references

    def _take(self, begin: str, end: str = "") -> Json | None:
        """Remove the first of such references, and return it."""
        for reference in self._left:
            if reference["Get"].startswith(begin) and reference["Get"].endswith(end):
                self._left.remove(reference)
                return reference
        return None

    def one(self, begin: str, default: Any, end: str = "") -> Any:
        """Remove the first of such references, and return it, or the default."""
        return self._take(begin, end) or default

    def resources(self) -> Json:
        """Remove what the instances are, and return it."""
        return {
            "InstanceType": self.one("Parameters.InstanceType", "ml.m5.xlarge"),
            "InstanceCount": self.one("Parameters.InstanceCount", 1),
        }

    def location(self) -> Any:
        """
        Remove the first location of what the step reads from S3, and return it; None if
        there is no other.
        """
        if job := self._take("Steps.", "].TrainingJobName"):
            return _join("/", BUCKET, job, "output/model.tar.gz")
        return next(
            (found for end in LOCATIONS if (found := self._take("Steps.", end))), None
        )

    def locations(self) -> list[Any]:
        """Remove all locations of what the step reads from S3, and return them."""
        return list(iter(self.location, None))

    def model(self) -> tuple[Any, Any]:
        """Remove the image and the location of a model, and return both."""
        image = (
            self._take("Steps.", "Image") or self._take("Steps.", ".ImageUri") or IMAGE
        )
        return image, self.location() or f"{BUCKET}/model.tar.gz"

    def values(self) -> Json:
        """
        Remove what is left, and return it with names, as the text that a job can have.
        """
        return {
            f"value{number}": _join("", each)
            for number, each in enumerate(self.rest(), 1)
        }

    def rest(self) -> list[Json]:
        """Remove what is left, and return it."""
        rest, self._left = self._left, []
        return rest


def _processing(uses: _Uses) -> Json:
    inputs = [
        {
            "InputName": f"in{number}",
            "AppManaged": False,
            "S3Input": _s3_input(location, number),
        }
        for number, location in enumerate(uses.locations(), 1)
    ]
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {**uses.resources(), "VolumeSizeInGB": 30}
        },
        "AppSpecification": {
            "ImageUri": IMAGE,
            "ContainerEntrypoint": ["python3", "/opt/ml/code/run.py"],
        },
        "RoleArn": ROLE,
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {
            "Outputs": [_output(uses.name, output) for output in uses.outputs]
        },
    }
    environment = uses.values()
    return {
        "Arguments": {**arguments, "Environment": environment}
        if environment
        else arguments
    }


def _s3_input(location: Any, number: int) -> Json:
    local = f"/opt/ml/processing/in{number}"
    return {
        "S3Uri": location,
        "LocalPath": local,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }


def _output(step: str, output: str) -> Json:
    location = _join(
        "/", BUCKET, {"Get": "Execution.PipelineExecutionId"}, step, output
    )
    s3_output = {
        "S3Uri": location,
        "LocalPath": f"/opt/ml/processing/{output}",
        "S3UploadMode": "EndOfJob",
    }
    return {"OutputName": output, "AppManaged": False, "S3Output": s3_output}


def _training(uses: _Uses) -> Json:
    return {"Arguments": {**_training_job(uses), "HyperParameters": uses.values()}}


def _function(uses: _Uses) -> Json:
    """
    Return the members of a step of a function: the SDK writes what it returns below the
    step's name.
    """
    body = _training(uses)
    folder = _join(
        "/", BUCKET, {"Get": "Execution.PipelineExecutionId"}, uses.name, "results"
    )
    body["Arguments"]["OutputDataConfig"]["S3OutputPath"] = folder
    return body


def _training_job(uses: _Uses) -> Json:
    channels = [
        {
            "ChannelName": f"in{number}",
            "DataSource": {"S3DataSource": _s3_source(location)},
        }
        for number, location in enumerate(uses.locations(), 1)
    ]
    # AWS refuses an empty list, as an empty map below.
    inputs = {"InputDataConfig": channels} if channels else {}
    return {
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        **inputs,
        "OutputDataConfig": {"S3OutputPath": f"{BUCKET}/models"},
        "ResourceConfig": {**uses.resources(), "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "RoleArn": ROLE,
    }


def _s3_source(location: Any) -> Json:
    return {
        "S3DataType": "S3Prefix",
        "S3Uri": location,
        "S3DataDistributionType": "FullyReplicated",
    }


def _tuning(uses: _Uses) -> Json:
    limits = ("MaxNumberOfTrainingJobs", "MaxParallelTrainingJobs")
    config = {
        "Strategy": "Bayesian",
        "ResourceLimits": {limit: uses.one("Parameters.Number", 2) for limit in limits},
        "HyperParameterTuningJobObjective": {
            "Type": "Minimize",
            "MetricName": "validation:rmse",
        },
        "ParameterRanges": {},
    }
    job = {**_training_job(uses), "StaticHyperParameters": uses.values()}
    return {
        "Arguments": {
            "HyperParameterTuningJobConfig": config,
            "TrainingJobDefinition": job,
        }
    }


def _model(uses: _Uses) -> Json:
    image, location = uses.model()
    container = {"Image": image, "ModelDataUrl": location, "Environment": uses.values()}
    return {"Arguments": {"ExecutionRoleArn": ROLE, "PrimaryContainer": container}}


def _register(uses: _Uses) -> Json:
    metrics = {
        member: {"ContentType": "application/json", "S3Uri": reference}
        for member, reference in (
            ("Statistics", uses.one("Steps.", None, ".CalculatedBaselineStatistics")),
            ("Constraints", uses.one("Steps.", None, ".CalculatedBaselineConstraints")),
        )
        if reference
    }
    image, location = uses.model()
    arguments = {
        "ModelPackageGroupName": "models",
        **({"ModelMetrics": {"ModelDataQuality": metrics}} if metrics else {}),
        "InferenceSpecification": {
            "Containers": [{"Image": image, "ModelDataUrl": location}],
            "SupportedContentTypes": ["text/csv"],
            "SupportedResponseMIMETypes": ["text/csv"],
        },
        "ModelApprovalStatus": uses.one(
            "Parameters.ApprovalStatus", "PendingManualApproval"
        ),
    }
    if values := uses.values():
        arguments["CustomerMetadataProperties"] = values
    return {"Arguments": arguments}


def _transform(uses: _Uses) -> Json:
    source = uses.location() or uses.one("Parameters.Uri", f"{BUCKET}/batch")
    arguments = {
        "ModelName": uses.one("Steps.", "model", ".ModelName"),
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}}
        },
        "TransformOutput": {"S3OutputPath": f"{BUCKET}/scores"},
        "TransformResources": uses.resources(),
        "Environment": uses.values(),
    }
    return {"Arguments": arguments}


def _fail(uses: _Uses) -> Json:
    return {"Arguments": {"ErrorMessage": _join(" ", "No model:", *uses.rest())}}


def _lambda(uses: _Uses) -> Json:
    function = "arn:aws:lambda:us-east-1:123456789012:function:work"
    return {"FunctionArn": function, **_outside(uses)}


def _callback(uses: _Uses) -> Json:
    queue = uses.one(
        "Parameters.Queue", "https://sqs.us-east-1.amazonaws.com/123456789012/work"
    )
    return {"SqsQueueUrl": queue, **_outside(uses)}


def _outside(uses: _Uses) -> Json:
    outputs = [
        {"OutputName": output, "OutputType": "String"} for output in uses.outputs
    ]
    return {"Arguments": uses.values(), "OutputParameters": outputs}


def _check(kind: str, uses: _Uses) -> Json:
    """
    Return the members of a check step; ``SkipCheck`` and the others are beside its
    arguments.
    """
    flags = ("SkipCheck", "RegisterNewBaseline")
    body = {flag: uses.one("Parameters.Flag", False) for flag in flags}
    job = _processing(uses)["Arguments"]
    job["ProcessingOutputConfig"]["Outputs"] = [_output(uses.name, "result")]
    own = {
        "CheckType": kind,
        "ModelPackageGroupName": "models",
        "FailOnViolation": True,
    }
    return {**own, **body, "Arguments": job}


def _emr(uses: _Uses) -> Json:
    cluster = uses.one("Parameters.Text", "j-1ABCDEFGHIJKL")
    jar = {"Jar": "command-runner.jar", "Args": uses.rest()}
    config = {"ActionOnFailure": "CONTINUE", "HadoopJarStep": jar}
    return {"Arguments": {"ClusterId": cluster, "StepConfig": config}}


def _emr_serverless(uses: _Uses) -> Json:
    driver = {
        "SparkSubmit": {
            "EntryPoint": f"{BUCKET}/job.py",
            "EntryPointArguments": uses.rest(),
        }
    }
    config = {"executionRoleArn": ROLE, "jobDriver": driver}
    return {
        "Arguments": {
            "ExecutionRoleArn": ROLE,
            "ApplicationId": "00abcdefg",
            "JobConfig": config,
        }
    }


def _auto_ml(uses: _Uses) -> Json:
    location = uses.one("Parameters.Uri", f"{BUCKET}/data")
    source = {"S3DataType": "S3Prefix", "S3Uri": location}
    target, limit = (
        uses.one("Parameters.Text", "y"),
        uses.one("Parameters.Number", 3600),
    )
    arguments = {
        "InputDataConfig": [
            {"DataSource": {"S3DataSource": source}, "TargetAttributeName": target}
        ],
        "OutputDataConfig": {"S3OutputPath": f"{BUCKET}/search"},
        "AutoMLJobConfig": {
            "CompletionCriteria": {"MaxAutoMLJobRuntimeInSeconds": limit},
            "Mode": "ENSEMBLING",
        },
        "RoleArn": ROLE,
    }
    return {"Arguments": arguments}


_MEMBERS: Mapping[str, Callable[[_Uses], Json]] = {
    "Processing": _processing,
    "Training": _training,
    "Function": _function,
    "Tuning": _tuning,
    "Model": _model,
    "RegisterModel": _register,
    "Transform": _transform,
    "Fail": _fail,
    "Lambda": _lambda,
    "Callback": _callback,
    "QualityCheck": partial(_check, "DATA_QUALITY"),
    "ClarifyCheck": partial(_check, "DATA_BIAS"),
    "EMR": _emr,
    "EMRServerless": _emr_serverless,
    "AutoML": _auto_ml,
}
