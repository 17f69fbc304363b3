"""
Step caching: which earlier run of a step has the same results.

The rules are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html: a step with
``CacheConfig`` reuses the most recent successful run of the same step in the same
pipeline, if that run is not older than ``ExpireAfter`` and if the attributes in the
cache key have the same values.

A step that reuses results has the properties of the job that made them. Its outputs are
where that job has written them, under the id of the earlier execution, so the steps
after it find their own results too. A value that only the job of another step can
produce differs from job to job.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any

from sagemaker_emulator.engine.definition import Step, duration_seconds
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    Scope,
    Unknown,
    evaluate_all,
)

# The attributes in the cache key, as paths in ``Arguments``. The page names none for
# Lambda, Callback and EMR Serverless steps, but the SageMaker Python SDK lets them
# cache: there, all arguments count.
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
# The members that name an entry of a list.
_NAME_MEMBERS = ("OutputName", "InputName", "ChannelName")
_PATH_PART = re.compile(r"\.?([A-Za-z0-9_]+)|\[(\d{1,9})\]|\[(['\"])(.*?)\3\]")


def max_age(step: Step) -> float | None:
    """
    Return up to which age in seconds an earlier run of a step is reused; None to reuse
    none.
    """
    config = step.body.get("CacheConfig")
    if not isinstance(config, dict) or step.type not in _KEYS:
        return None
    if not config.get("Enabled"):
        return None
    expire_after = config.get("ExpireAfter")
    if expire_after is None:
        return inf
    return duration_seconds(expire_after)


def cache_key(step: Step, scope: Scope, job_of: Callable[[str], str]) -> str | None:
    """
    Return the text that two runs have in common if one can replace the other; None if
    there is no caching.

    :param step: the step.
    :param scope: the values that the arguments of the step can refer to.
    :param job_of: returns the identity of the job of another step.
    """
    if step.type not in _KEYS:
        return None

    def resolve(reference: str) -> Any:
        value = scope.resolve(reference)
        step_property = STEP_PROPERTY.match(reference)
        if step_property and isinstance(value, Unknown):
            return f"{reference} of {job_of(step_property[1])}"
        return value

    comparable_scope = replace(scope, resolve=resolve)
    attributes = {
        path: _comparable(_argument_at(step.arguments, path), comparable_scope)
        for path in _KEYS[step.type]
    }
    members = {
        name: _comparable(step.body.get(name), comparable_scope)
        for name in _STEP_MEMBERS.get(step.type, ())
    }
    content = json.dumps([step.type, attributes, members], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _comparable(value: Any, scope: Scope) -> Any:
    """Evaluate a value; return the text of the error if that fails."""
    try:
        return evaluate_all(value, scope)
    except ExpressionError as error:
        return str(error)


def _argument_at(arguments: Any, path: str) -> Any:
    if path == "":
        return arguments
    for name in path.split("."):
        if not isinstance(arguments, dict):
            return None
        arguments = arguments.get(name)
    return arguments


def property_at(content: Any, path: str) -> Any:
    """
    Return the value at the path of a step's property; None if there is none.

    ``['x']`` finds the list entry named x.

    :param content: the response of the Describe operation of the step's job, or the
        arguments of the step.
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
        elif not isinstance(content, list):
            return None
        elif part[2]:
            index = int(part[2])
            if index >= len(content):
                return None
            content = content[index]
        else:
            content = _entry_named(content, name)
        position = part.end()
    return content


def _entry_named(entries: list[Any], name: str) -> dict[str, Any] | None:
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        if name in [entry.get(member) for member in _NAME_MEMBERS]:
            return entry
    return None
