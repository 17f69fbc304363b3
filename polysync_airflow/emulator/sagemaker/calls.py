"""One API call: the request and everything an operation may touch while it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from polysync_airflow.emulator.engine.scenarios import Scenario
from polysync_airflow.emulator.sagemaker.store import ExecutionRecord, Region

#: Reads an S3 object: bucket, key, version (or None) to contents.
ReadObject = Callable[[str, str, str | None], bytes]


@dataclass(frozen=True)
class Call:
    """A checked request, with the time it is answered at in seconds since the epoch."""

    request: Mapping[str, Any]
    region: Region
    now: float
    scenario_of: Callable[[str], Scenario]
    read_object: ReadObject

    def execution(self, arn: str) -> ExecutionRecord:
        """Find an execution, with everything applied that was due.

        :raises ApiError: ResourceNotFound.
        """
        record = self.region.execution(arn)
        record.engine.advance(self.now)
        return record


Operation = Callable[[Call], dict[str, Any]]


def present(**members: Any) -> dict[str, Any]:
    """Return an answer without the members that have no value; AWS leaves them out."""
    return {name: value for name, value in members.items() if value is not None}


def parallelism(request: Mapping[str, Any]) -> int | None:
    """Return the ``MaxParallelExecutionSteps`` of a request, or None."""
    limit: int | None = request.get("ParallelismConfiguration", {}).get("MaxParallelExecutionSteps")
    return limit


def parallelism_answer(limit: float | None) -> dict[str, Any] | None:
    """Return a ``ParallelismConfiguration``, or None without a limit."""
    if limit is None or limit == float("inf"):
        return None
    return {"MaxParallelExecutionSteps": int(limit)}
