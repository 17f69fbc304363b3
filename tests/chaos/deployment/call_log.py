"""A copy of the emulator's call log, grouped by pipeline and extended incrementally."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sagemaker_emulator.server.client import ControlClient


class CallLog:
    """
    The calls that Airflow's processes sent to the emulator.

    :param control: a client of the emulator's control API.
    :param ignored_key: access key id whose calls are ignored; the suite itself uses it.
    """

    def __init__(self, control: ControlClient, *, ignored_key: str) -> None:
        self._control = control
        self._ignored_key = ignored_key
        self._last_id = 0
        self._by_pipeline: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.throttled = 0

    def refresh(self) -> None:
        """Fetch the calls since the last refresh."""
        for call in self._control.calls(after=self._last_id):
            self._last_id = call["id"]
            self.throttled += call["fault"] == "throttle"
            if call["access_key_id"] != self._ignored_key:
                self._by_pipeline[_pipeline(call["request"])].append(call)

    def of(self, pipeline: str, operation: str) -> list[dict[str, Any]]:
        """
        Return the calls about a pipeline or its executions, oldest first.

        :param pipeline: the pipeline's name in lower case.
        :param operation: the operation, for example ``StopPipelineExecution``.
        """
        return [call for call in self.all(pipeline) if call["operation"] == operation]

    def all(self, pipeline: str) -> list[dict[str, Any]]:
        """
        Return all calls about a pipeline or its executions, oldest first.

        :param pipeline: the pipeline's name in lower case; empty for the calls that are
            about none.
        """
        return list(self._by_pipeline[pipeline])


def _pipeline(request: dict[str, Any]) -> str:
    """
    Return the pipeline's name in lower case; empty if the log has no request, as for a
    rejected call.
    """
    arn = str(
        request.get("PipelineName") or request.get("PipelineExecutionArn") or ""
    ).lower()
    return arn.rpartition(":pipeline/")[2].partition("/")[0]
