"""
Step caching: which earlier run of a step has the same results.

The rules are those of https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html: a step with ``CacheConfig``
reuses the most recent successful run of the same step in the same pipeline, if the run is not older than
``ExpireAfter`` and if the attributes that belong to the cache key have the same values. A value that only
the job of another step can produce differs from job to job.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from sagemaker_emulator.engine.definition import Step, duration_seconds
from sagemaker_emulator.engine.expressions import ExpressionError, Scope, Unknown, evaluate, evaluate_all

# The attributes in the cache key, as paths in ``Arguments``. The page has none for Lambda, Callback and EMR
# Serverless steps, which the SageMaker Python SDK lets cache: there, all arguments count.
_TUNING = (
    "AlgorithmSpecification",
    "HyperParameterRanges",
    "InputDataConfig",
    "StaticHyperParameters",
    "TuningObjective",
)
_AUTOML = ("CompletionCriteria", "CandidateGenerationConfig", "DataSplitConfig", "Mode")
_CHECK = (
    "CheckType",
    "SkipCheck",
    "RegisterNewBaseline",
    "ModelPackageGroupName",
    "SuppliedBaselineConstraints",
    "SuppliedBaselineStatistics",
)
_ALL: tuple[str, ...] = ("",)
_KEYS: Mapping[str, tuple[str, ...]] = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": (
        "AlgorithmSpecification",
        "CheckpointConfig",
        "DebugHookConfig",
        "DebugRuleConfigurations",
        "Environment",
        "HyperParameters",
        "InputDataConfig",
    ),
    "Tuning": (
        "HyperParameterTuningJobConfig",
        *(f"TrainingJobDefinition.{member}" for member in _TUNING),
        "TrainingJobDefinitions",
    ),
    "AutoML": (
        *(f"AutoMLJobConfig.{member}" for member in _AUTOML),
        "AutoMLJobObjective",
        "InputDataConfig",
        "ProblemType",
    ),
    "Transform": ("DataProcessing", "Environment", "ModelName", "TransformInput"),
    "ClarifyCheck": _ALL,
    "QualityCheck": _ALL,
    "EMR": ("ClusterId", "StepConfig"),
    "EMRServerless": _ALL,
    "Lambda": _ALL,
    "Callback": _ALL,
}
# The members of the step itself that are in the cache key.
_STEP_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "ClarifyCheck": _CHECK,
    "QualityCheck": _CHECK,
    "Lambda": ("FunctionArn",),
    "Callback": ("SqsQueueUrl",),
}
STEP_PROPERTY = re.compile(r"Steps\.([A-Za-z0-9\-_]+)\.(.+)")
_PATH_PART = re.compile(r"\.?([A-Za-z0-9_]+)|\[(\d{1,9})\]|\[(['\"])(.*?)\3\]")


def max_age(step: Step) -> float | None:
    """Return the age in seconds up to which an earlier run of a step is reused; None to reuse none."""
    config = step.body.get("CacheConfig") or {}
    if not config.get("Enabled") or step.type not in _KEYS:
        return None
    expire_after = config.get("ExpireAfter")
    return inf if expire_after is None else duration_seconds(expire_after)


def cache_key(
    step: Step, scope: Scope, steps: Mapping[str, Step], job_of: Callable[[str], str]
) -> str | None:
    """
    Return the text that two runs have in common if one can replace the other; None if there is no caching.

    :param step: the step.
    :param scope: the values that the arguments of the step can refer to.
    :param steps: all steps of the definition.
    :param job_of: returns the identity of the job of another step.
    """
    if step.type not in _KEYS:
        return None
    resolver = _Resolver(scope, steps, job_of)
    attributes = {path: resolver.value(_at(step.arguments, path)) for path in _KEYS[step.type]}
    members = {name: resolver.value(step.body.get(name)) for name in _STEP_MEMBERS.get(step.type, ())}
    content = json.dumps([step.type, attributes, members], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


class _Resolver:
    """Evaluates the arguments of a step. A value that only a job can produce is named by that job."""

    def __init__(self, scope: Scope, steps: Mapping[str, Step], job_of: Callable[[str], str]) -> None:
        self._scope = scope
        self._steps = steps
        self._job_of = job_of

    def value(self, value: Any) -> Any:
        if isinstance(value, dict) and len(value) == 1 and "Std:Join" in value:
            operand = value["Std:Join"] if isinstance(value["Std:Join"], dict) else {}
            parts = operand.get("Values")
            return [operand.get("On"), [self.value(part) for part in parts or ()]]
        try:
            result = evaluate(value, self._scope)
        except ExpressionError as error:
            return str(error)
        if isinstance(result, Unknown):
            return self._property(result.reference)
        if isinstance(result, dict):
            return {key: self.value(item) for key, item in result.items()}
        if isinstance(result, list):
            return [self.value(item) for item in result]
        return result

    def _property(self, reference: str) -> Any:
        """
        Return the value of a step's property. A property that is part of the step's own arguments, such as an
        output location, has the same value there.
        """
        match = STEP_PROPERTY.match(reference)
        if match is None:
            return reference
        if match[1] in self._steps:
            argument = property_at(self._steps[match[1]].arguments, match[2])
            if argument is not None:
                return evaluate_all(argument, self._scope)
        return f"{reference} of {self._job_of(match[1])}"


def _at(arguments: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        arguments = arguments.get(name) if isinstance(arguments, dict) else None
    return arguments


def property_at(content: Any, path: str) -> Any:
    """
    Return the value at the path of a step's property, or None. ``['x']`` finds the list entry named x.

    :param content: arguments of the step, or the response of the Describe operation of its job.
    :param path: the path, such as ``ModelArtifacts.S3ModelArtifacts``.
    """
    position = 0
    while position < len(path):
        part = _PATH_PART.match(path, position)
        if part is None:
            return None
        name = part[1] or part[4]
        if isinstance(content, dict):
            content = content.get(name)
        elif isinstance(content, list) and part[2]:
            content = content[int(part[2])] if int(part[2]) < len(content) else None
        elif isinstance(content, list):
            names = ("OutputName", "InputName", "ChannelName")
            entries = [entry for entry in content if isinstance(entry, dict)]
            content = next((e for e in entries if name in [e.get(key) for key in names]), None)
        else:
            return None
        position = part.end()
    return content
