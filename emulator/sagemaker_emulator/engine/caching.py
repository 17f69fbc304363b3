"""
Step caching: which earlier run of a step has the same results.

The rules are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html: a step with
``CacheConfig``
reuses the most recent successful run of the same step in the same pipeline, if the run
is not older than ``ExpireAfter`` and if the attributes that belong to the cache key
have the same values. A step that reuses results has the properties of the job that made
them: its outputs are where that job has written them, under the id of the earlier
execution, so that the steps after it find their own results too. A value that only the
job of another step can produce differs from job to job.
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

# The attributes in the cache key, as paths in ``Arguments``. The page has none for
# Lambda, Callback and EMR Serverless steps, which the SageMaker Python SDK lets cache:
# there, all arguments count.
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
    """
    Return the age in seconds up to which an earlier run of a step is reused; None to
    reuse none.
    """
    config = step.body.get("CacheConfig") or {}
    if not config.get("Enabled") or step.type not in _KEYS:
        return None
    expire_after = config.get("ExpireAfter")
    return inf if expire_after is None else duration_seconds(expire_after)


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
        value, match = scope.resolve(reference), STEP_PROPERTY.match(reference)
        return (
            f"{reference} of {job_of(match[1])}"
            if match and isinstance(value, Unknown)
            else value
        )

    compared = replace(scope, resolve=resolve)
    attributes = {
        path: _value(_at(step.arguments, path), compared) for path in _KEYS[step.type]
    }
    members = {
        name: _value(step.body.get(name), compared)
        for name in _STEP_MEMBERS.get(step.type, ())
    }
    content = json.dumps([step.type, attributes, members], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _value(value: Any, scope: Scope) -> Any:
    try:
        return evaluate_all(value, scope)
    except ExpressionError as error:
        return str(error)


def _at(arguments: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        arguments = arguments.get(name) if isinstance(arguments, dict) else None
    return arguments


def property_at(content: Any, path: str) -> Any:
    """
    Return the value at the path of a step's property, or None. ``['x']`` finds the list
    entry named x.

    :param content: arguments of the step, or the response of the Describe operation of
        its job.
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
            content = next(
                (e for e in entries if name in [e.get(key) for key in names]), None
            )
        else:
            return None
        position = part.end()
    return content
