"""
The warm pools of a region: instances that it keeps after the end of a training job, for
the next one that matches.

The rules are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html: a pool is kept
for ``KeepAlivePeriodInSeconds`` of the job that has had it last, whether this job has
succeeded, was stopped, or has failed by an error of its own, and moves from job to job
for 28 days at most. AWS does not document which one of several pools a job gets: here,
that which has waited longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Final

_MAX_AGE: Final = 28 * 24 * 3600.0
# In the reasons of failures that are those of the cluster, which is then not kept.
_FAULTS: Final = ("InternalServerError", "CapacityError")


@dataclass
class WarmPool:
    """
    The instances of a training job that it leaves to a later one, or has got from an
    earlier one. Times are Unix times.

    :param job: the name of the job.
    :param key: what it must have in common with a job that gets them.
    :param keep_alive: for how many seconds they are kept after its end.
    :param launched_at: when they were launched, for the first job that had them.
    :param is_reused: whether it has got them from an earlier job.
    :param kept_from: its end; None while it runs.
    :param kept_until: when they go to another job, or are released.
    :param reused_by: the name of the job that has got them.
    """

    job: str
    key: str
    keep_alive: float
    launched_at: float
    is_reused: bool
    kept_from: float | None = None
    kept_until: float = inf
    reused_by: str | None = None

    def keep(self, at: float, reason: str | None) -> None:
        """
        Keep the instances after the end of the job.

        :param at: its end.
        :param reason: why it has failed, if it has.
        """
        self.kept_from = at
        is_launched = self.is_reused or at >= self.launched_at
        is_healthy = not any(fault in (reason or "") for fault in _FAULTS)
        self.kept_until = at
        if is_launched and is_healthy:
            oldest = max(at, self.launched_at + _MAX_AGE)
            self.kept_until = min(at + self.keep_alive, oldest)

    def is_available(self, at: float) -> bool:
        """Return whether a job that starts now can get the instances."""
        if self.kept_from is None or self.reused_by is not None:
            return False
        return self.kept_from <= at < self.kept_until

    def status(self, now: float) -> dict[str, Any] | None:
        """
        Return the member ``WarmPoolStatus`` of the job; None before it has instances.

        AWS does not document whether it tells for how long a pool was kept that is
        still available. Here it does, so that nobody takes this time as final.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_WarmPoolStatus.html
        """
        if self.kept_from is None:
            has_instances = self.is_reused or now >= self.launched_at
            return {"Status": "InUse"} if has_instances else None
        kept_seconds = round(min(now, self.kept_until) - self.kept_from)
        status: dict[str, Any] = {"ResourceRetainedBillableTimeInSeconds": kept_seconds}
        if self.reused_by is not None:
            return {"Status": "Reused", "ReusedByJob": self.reused_by, **status}
        if self.is_available(now):
            return {"Status": "Available", **status}
        return {"Status": "Terminated", **status}


class WarmPools:
    """The warm pools that a job can get, or that jobs have which run."""

    def __init__(self) -> None:
        self._pools: list[WarmPool] = []

    def pool_of(
        self, job: str, key: str, keep_alive: float, at: float, launched_at: float
    ) -> WarmPool | None:
        """
        Return the warm pool of a job that starts; None if it neither gets one nor
        leaves one. The jobs of a region start here in the order of their times.

        :param job: the name of the job.
        :param key: what two jobs have in common if one can get the pool of the other.
        :param keep_alive: for how many seconds the pool is kept after the job.
        :param at: when the job is created, as Unix time.
        :param launched_at: when it has instances if it gets no pool.
        """
        self._pools = [pool for pool in self._pools if at < pool.kept_until]
        matching = [
            pool for pool in self._pools if pool.key == key and pool.is_available(at)
        ]
        earlier = min(matching, key=lambda pool: pool.kept_from or at, default=None)
        if earlier is None and not keep_alive:
            return None
        if earlier is not None:
            earlier.kept_until = at
            earlier.reused_by = job
            launched_at = earlier.launched_at
            self._pools.remove(earlier)
        pool = WarmPool(job, key, keep_alive, launched_at, earlier is not None)
        self._pools.append(pool)
        return pool
