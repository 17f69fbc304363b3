"""
Decides whether and when a failed step is tried again: the ``RetryPolicies`` of a step.

The rules, the limits and the defaults are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html. A policy
counts its own retries;
AWS does not document how the policies of a step count together. The retries that AWS
makes without a policy are not emulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sagemaker_emulator.engine.definition import MAX_RETRIES, Step

_DEFAULT_RETRIES = 5
# AWS's page and, for EMR Serverless, the SageMaker Python SDK. A notebook job is a
# Training step.
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
        Return the seconds until the next try, and count it; None if the step is not
        tried again.

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
    Return the policies of a step. Like AWS, it has none if its type does not support
    them.
    """
    if step.type not in _STEP_TYPES:
        return Retries(())
    ignored = {_INTERNAL_ERROR} if step.type in _NO_INTERNAL_ERROR else set()
    return Retries(
        [_policy(entry, ignored) for entry in step.body.get("RetryPolicies") or ()]
    )


def _policy(entry: dict[str, Any], ignored: set[str]) -> RetryPolicy:
    minutes = entry.get("ExpireAfterMin")
    # With an expiry and no maximum, the expiry alone ends the retries.
    retries_without_maximum = _DEFAULT_RETRIES if minutes is None else MAX_RETRIES
    return RetryPolicy(
        exception_types=frozenset(entry["ExceptionType"]) - ignored,
        interval=float(entry.get("IntervalSeconds", 1)),
        backoff_rate=float(entry.get("BackoffRate", 2.0)),
        max_retries=int(entry.get("MaxAttempts", retries_without_maximum)),
        expire_after=inf if minutes is None else minutes * 60.0,
    )
