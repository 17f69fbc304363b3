"""
Decides whether and when a failed step is tried again: the ``RetryPolicies`` of a step.

The rules, the limits and the defaults are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html. A policy
counts its own retries; AWS does not document how the policies of a step count together.
The retries that AWS makes without a policy are not emulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sagemaker_emulator.engine.definition import Step

_DEFAULT_RETRIES = 5
_MAX_RETRIES = 20
# The types that support policies, by AWS's page and, for EMR Serverless, the SageMaker
# Python SDK. AWS lists notebook jobs, too: their steps have the type Training, and so
# has a function of the SDK.
_STEP_TYPES = frozenset(
    {
        "Processing",
        "Training",
        "Tuning",
        "AutoML",
        "Model",
        "RegisterModel",
        "Transform",
        "EMRServerless",
    }
)
# These jobs repeat their own jobs after an internal error.
_NO_INTERNAL_ERROR = frozenset({"Tuning", "AutoML"})
_INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"


@dataclass
class RetryPolicy:
    """
    One policy.

    :param exception_types: the exceptions after which the step is tried again.
    :param interval: the seconds before the first retry.
    :param backoff_rate: the factor by which the interval grows with each retry.
    :param max_retries: the maximum number of retries.
    :param expire_after: the seconds since the start of the step after which there is no
        retry.
    """

    exception_types: frozenset[str]
    interval: float
    backoff_rate: float
    max_retries: int
    expire_after: float


@dataclass
class Retries:
    """The policies of a step, and the number of retries that each has caused."""

    policies: Sequence[RetryPolicy]
    counts: dict[int, int] = field(default_factory=dict)

    def delay(self, exception_types: Sequence[str], elapsed: float) -> float | None:
        """
        Count a retry and return the seconds until it starts; None if there is none.

        :param exception_types: the exception types of the failure.
        :param elapsed: the seconds since the start of the step.
        """
        for number, policy in enumerate(self.policies):
            if policy.exception_types.isdisjoint(exception_types):
                continue
            count = self.counts.get(number, 0)
            delay = policy.interval * policy.backoff_rate**count
            if count >= policy.max_retries or elapsed + delay > policy.expire_after:
                return None
            self.counts[number] = count + 1
            return delay
        return None


def retries(step: Step) -> Retries:
    """
    Return the policies of a step; none if its type does not support them, like AWS.
    """
    entries = step.body.get("RetryPolicies")
    if step.type not in _STEP_TYPES or not isinstance(entries, list):
        return Retries(())
    policies: list[RetryPolicy] = []
    for entry in entries:
        # A lenient emulator accepts policies that AWS would refuse.
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            policies.append(_policy(entry))
    if step.type in _NO_INTERNAL_ERROR:
        for policy in policies:
            policy.exception_types -= {_INTERNAL_ERROR}
    return Retries(policies)


def _policy(entry: dict[str, Any]) -> RetryPolicy:
    max_retries = _DEFAULT_RETRIES
    expire_after = inf
    minutes = entry.get("ExpireAfterMin")
    if minutes is not None:
        # The expiry alone ends the retries, unless the policy has a maximum, too.
        max_retries = _MAX_RETRIES
        expire_after = minutes * 60.0
    return RetryPolicy(
        exception_types=frozenset(entry["ExceptionType"]),
        interval=float(entry.get("IntervalSeconds", 1)),
        backoff_rate=float(entry.get("BackoffRate", 2.0)),
        max_retries=int(entry.get("MaxAttempts", max_retries)),
        expire_after=expire_after,
    )
