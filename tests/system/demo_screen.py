"""Owns what the demo shows a person: plain lines, as legible in a CI log as on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


class Screen:
    """Each line about something that happens begins with the seconds since the demo's start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Tell what happens now."""
        self.line(f"{time.monotonic() - self._start:7.1f} s  {text}")

    def line(self, text: str) -> None:
        """Show a line without the time."""
        print(text, flush=True)

    def change(self, what: str, state: str, *, remarks: Mapping[str, str] | None = None) -> None:
        """
        Tell a state, unless it was told already or is not worth a line: a task that has not begun.

        :param what: whose.
        :param state: the state now.
        :param remarks: what to add, by state.
        """
        if state != self._shown.get(what, "none"):
            self._shown[what] = state
            remark = (remarks or {}).get(state)
            self.say(f"{what}: {state}" + (f" ({remark})" if remark else ""))

    def tasks(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Show how the tasks ended."""
        rows = [(t["task_id"], t["state"], f"{t['duration']:.1f}" if t["duration"] else "-") for t in tasks]
        self._table("Tasks in Airflow", ("task", "state", "seconds"), rows)

    def execution(self, run: Mapping[str, Any], *, console_url: str | None) -> None:
        """Show what the task tells about the execution: its XCom ``run``, its button."""
        self.line(f"\nExecution of the pipeline {run['pipeline_name']}")
        self.line(f"  state       {run['state']} (AWS status {run['status']}) after {run['seconds']:.0f} s")
        self.line(f"  ARN         {run['execution_arn']}")
        self.line(f"  console     {console_url}")
        label = "parameters"
        for name, value in run["parameters"].items():
            self.line(f"  {label:10}  {name} = {value}")
            label = ""

    def steps(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Show the steps of the execution, as AWS lists them."""
        rows = [
            (
                step["StepName"],
                "/".join(step.get("Metadata", {})) or "-",
                step["StepStatus"],
                _seconds(step.get("StartTime"), step.get("EndTime")),
            )
            for step in steps
        ]
        self._table(
            "Its steps, in seconds of the emulator's time", ("step", "job", "status", "seconds"), rows
        )
        self.line("")

    def failure(self, reason: str, *, logs: Path) -> None:
        """Tell why the demo failed, and where to read more."""
        sys.stdout.flush()
        print(f"\nThe demo failed: {reason}\n\nAll logs are in {logs}", file=sys.stderr, flush=True)

    def _table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table; its last column holds numbers."""
        lines = [head, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        self.line(f"\n{title}")
        for line in lines:
            cells = [cell.ljust(width) for cell, width in zip(line[:-1], widths[:-1], strict=True)]
            self.line("  " + "  ".join([*cells, line[-1].rjust(widths[-1])]))


def _seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.0f}" if start and end else "-"
