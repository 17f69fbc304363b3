"""
What the DAG author chose about the executions of earlier tries.

The operators import this when Airflow parses a DAG file; what decides by it is imported
when a task runs.
"""

from __future__ import annotations

from typing import Literal

from polysync_airflow.execution.parameters import Flag, Options

# What a cleared task does if its execution has failed.
OnClear = Literal["new", "resume"]
RetryMode = Literal["new", "resume"]
OnCompletedWithFailures = Literal["fail", "succeed"]


class RecoveryOptions(Options):
    """
    What the DAG author chose about the executions of earlier tries; see the arguments
    of the operator.
    """

    retry_mode: RetryMode
    on_clear: OnClear
    on_completed_with_failures: OnCompletedWithFailures
    stop_on_kill: Flag
    # Whether a cleared task stops an execution that runs. If not, it goes on with it if
    # ``on_clear`` is ``resume``; else it waits for its end, and chooses again.
    stop_on_clear: Flag = True

    @property
    def stops_cleared(self) -> bool:
        """Whether a cleared task stops an execution that runs."""
        return self.stop_on_kill and self.stop_on_clear
