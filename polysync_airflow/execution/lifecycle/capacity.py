"""
Which failures are for want of capacity, and how long a task waits before it asks again.

AWS refuses a start for a quota (``ResourceLimitExceeded``), or starts an execution
whose steps then get no instances: the reason of such a step has one of the texts in
``error_hints.json``. Everything here is pure.

https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple
from zlib import crc32

from pydantic import Field

from polysync_airflow.exceptions import CAPACITY_TEXTS
from polysync_airflow.execution import models, texts

# A deferral that ends within seconds may be over before the scheduler has handled the
# end of the process that deferred the task. Then it fails the task, and a retry is
# used: https://github.com/apache/airflow/issues/72716
MIN_PAUSE: Final = 10.0
MAX_PAUSE: Final = 600.0
# More do not matter: poll_interval has at least a second.
_MAX_DOUBLINGS: Final = 10
# Of all requests that lack the same capacity, each comes back at another moment.
_JITTER: Final = 0.25
# AWS's text about a quota: "The account-level service limit 'ml.p2.xlarge for training
# job usage' is 0 Instances, with current utilization of 0 Instances and a request delta
# of 1 Instances."
_LIMIT: Final = re.compile(r"limit '[^']*' is (\d{1,9}) ")
_REQUESTED: Final = re.compile(r"request delta of (\d{1,9}) ")


class CapacityWait(models.StrictModel):
    """
    The wait of a try for capacity: a member of its record, and of the XCom ``run``.

    :param try_number: the try that waits.
    :param since: when it has lacked capacity for the first time.
    :param pauses: how often it has asked in vain.
    :param reason: what AWS has said.
    :param asks_at: when it asks next.
    :param nothing_runs: whether nothing runs in AWS because of its request. While the
        request is on its way, or if an earlier one may have been accepted, that is not
        certain.
    """

    try_number: Annotated[int, Field(ge=1)]
    since: models.UtcTime
    pauses: Annotated[int, Field(ge=1)]
    reason: texts.ReasonText
    asks_at: models.UtcTime
    nothing_runs: bool


class CapacityLimits(NamedTuple):
    """
    How long a try waits for capacity.

    :param first_pause: the seconds before it asks for the first time again.
    :param timeout: the seconds after which it gives up.
    """

    first_pause: float
    timeout: float


def lacked_by(reasons: Sequence[str | None]) -> str | None:
    """
    Return why an execution has failed, if it has failed for want of capacity only; None
    if another attempt would fail as well, or for another reason.

    :param reasons: the reasons of its failed steps.
    """
    for reason in reasons:
        # After AlgorithmError, the text is that of the user's program.
        if reason is None or reason.startswith("AlgorithmError"):
            return None
        if is_hopeless(reason) or not _has_any(reason, CAPACITY_TEXTS["signs"]):
            return None
    return next(iter(reasons), None)


def is_hopeless(reason: str) -> bool:
    """
    Return whether waiting is in vain: the quota is smaller than what is requested, for
    example 0, or the region does not have such instances.
    """
    if _has_any(reason, CAPACITY_TEXTS["hopeless"]):
        return True
    limit = _LIMIT.search(reason)
    if limit is None:
        return False
    # AWS does not always say how many are requested.
    needed = 1
    requested = _REQUESTED.search(reason)
    if requested:
        needed = int(requested[1])
    return int(limit[1]) < needed


def _has_any(reason: str, signs: Sequence[str]) -> bool:
    text = reason.casefold()
    return any(sign.casefold() in text for sign in signs)


def next_wait(
    earlier: CapacityWait | None,
    reason: str,
    limits: CapacityLimits,
    *,
    try_number: int,
    now: datetime,
    token: str,
    nothing_runs: bool,
) -> CapacityWait | None:
    """
    Return the wait until a try asks again; None if its time is up, or if waiting is in
    vain.

    :param earlier: the wait before its last request; None if it has not waited.
    :param token: the client token of the start, from which the jitter follows.
    :param nothing_runs: whether it is certain that nothing runs because of the request.
    """
    pauses = 0
    since = now
    if earlier and earlier.try_number == try_number:
        pauses = earlier.pauses
        since = earlier.since
    seconds_left = limits.timeout - (now - since).total_seconds()
    if seconds_left < MIN_PAUSE or is_hopeless(reason):
        return None
    share = crc32(f"{token} {pauses}".encode()) / 2**32
    seconds = min(limits.first_pause * 2 ** min(pauses, _MAX_DOUBLINGS), MAX_PAUSE)
    seconds = max(seconds * (1 - _JITTER + 2 * _JITTER * share), MIN_PAUSE)
    return CapacityWait(
        try_number=try_number,
        since=since,
        pauses=pauses + 1,
        reason=reason,
        asks_at=now + timedelta(seconds=min(seconds, seconds_left)),
        nothing_runs=nothing_runs,
    )
