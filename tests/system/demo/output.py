"""
Output of the demo: plain lines of text that are readable on a terminal and in a CI log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


class DemoOutput:
    """
    Prints the progress and the results of the demo. A progress line begins with the
    seconds since its start.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._states: dict[str, str] = {}

    def progress(self, text: str) -> None:
        """Print a progress line."""
        self.line(f"{time.monotonic() - self._start:7.1f} s  {text}")

    def line(self, text: str) -> None:
        """Print a line without the time."""
        print(text, flush=True)

    def state(
        self, name: str, state: str, *, explanations: Mapping[str, str] | None = None
    ) -> None:
        """
        Print the state of a task or step if it changed. The state ``none`` (not
        started) is not printed.

        :param name: the task or step.
        :param state: its current state.
        :param explanations: texts to add, by state.
        """
        if state != self._states.get(name, "none"):
            self._states[name] = state
            explanation = (explanations or {}).get(state)
            self.progress(
                f"{name}: {state}" + (f" ({explanation})" if explanation else "")
            )

    def tasks(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Print the final states of the tasks."""
        rows = [
            (t["task_id"], t["state"], f"{t['duration']:.1f}" if t["duration"] else "-")
            for t in tasks
        ]
        self._table("Tasks in Airflow", ("task", "state", "seconds"), rows)

    def execution(self, run: Mapping[str, Any], *, console_url: str | None) -> None:
        """
        Print the execution as the task reports it: its XCom ``run`` and its console
        link.
        """
        self.line(f"\nExecution of the pipeline {run['pipeline_name']}")
        self.line(
            f"  state       {run['state']} (AWS status {run['status']}) after {run['seconds']:.0f} s"
        )
        self.line(f"  ARN         {run['execution_arn']}")
        self.line(f"  console     {console_url}")
        label = "parameters"
        for name, value in run["parameters"].items():
            self.line(f"  {label:10}  {name} = {value}")
            label = ""

    def steps(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Print the steps of the execution, as AWS lists them."""
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
            "Steps of the execution",
            ("step", "job", "status", "seconds"),
            rows,
        )
        self.line("")

    def failure(self, reason: str, *, logs: Path) -> None:
        """Print why the demo failed, and the folder with the logs."""
        sys.stdout.flush()
        print(
            f"\nThe demo failed: {reason}\n\nThe logs are in {logs}",
            file=sys.stderr,
            flush=True,
        )

    def _table(
        self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """
        Print a table. The last column is aligned to the right, because it contains
        numbers.
        """
        lines = [head, *rows]
        widths = [
            max(len(line[column]) for line in lines) for column in range(len(head))
        ]
        self.line(f"\n{title}")
        for line in lines:
            cells = [
                cell.ljust(width)
                for cell, width in zip(line[:-1], widths[:-1], strict=True)
            ]
            self.line("  " + "  ".join([*cells, line[-1].rjust(widths[-1])]))


def _seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.0f}" if start and end else "-"
