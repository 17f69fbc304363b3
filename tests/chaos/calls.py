"""Owns what the emulator was asked, by pipeline: a copy of its call log that grows with it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from polysync_airflow.emulator.server.client import ControlClient


class CallMirror:
    """
    The requests that Airflow's processes sent.

    :param control: the emulator's control API.
    :param ignored_key: the access key whose requests are left out: the suite's own.
    """

    def __init__(self, control: ControlClient, *, ignored_key: str) -> None:
        self._control = control
        self._ignored_key = ignored_key
        self._last_id = 0
        self._by_pipeline: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.throttled = 0

    def refresh(self) -> None:
        """Fetch what was asked since the last time."""
        for call in self._control.calls(after=self._last_id):
            self._last_id = call["id"]
            self.throttled += call["fault"] == "throttle"
            if call["access_key_id"] != self._ignored_key:
                self._by_pipeline[_pipeline(call["request"])].append(call)

    def of(self, pipeline: str, operation: str) -> list[dict[str, Any]]:
        """
        List the requests about a pipeline or its executions, oldest first.

        :param pipeline: its name, in lower case.
        :param operation: such as ``StopPipelineExecution``.
        """
        return [call for call in self._by_pipeline[pipeline] if call["operation"] == operation]


def _pipeline(request: dict[str, Any]) -> str:
    """Return the pipeline's name in lower case; empty where the log has no request, as for a refused one."""
    named = str(request.get("PipelineName") or request.get("PipelineExecutionArn") or "").lower()
    return named.rpartition(":pipeline/")[2].partition("/")[0]
