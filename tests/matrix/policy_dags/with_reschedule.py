"""
Tasks whose retry policy reschedules them after each failure, with and without retries
left.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, RetryDecision, RetryPolicy

from polysync_airflow.operators import PolysyncStartPipelineOperator


class RescheduleAtOnce(RetryPolicy):
    """Reschedules, and writes to a file about what it was asked."""

    def evaluate(self, exception: BaseException, *_: Any, **__: Any) -> Any:
        """Return the decision."""
        with Path(os.environ["ASKED"]).open("a") as file:
            file.write(f"{type(exception).__name__}\n")
        decision: Any = RetryDecision
        return decision.reschedule(timedelta(0), max_reschedules=3)


for deferrable in (True, False):
    for retries in (0, 2):
        arguments: Any = {
            "task_id": "train",
            "deferrable": deferrable,
            "retries": retries,
            "retry_policy": RescheduleAtOnce(),
        }
        mode = "deferred" if deferrable else "worker"
        with DAG(f"rescheduled_{mode}_{retries}", schedule=None):
            if deferrable == (retries == 0):
                PolysyncStartPipelineOperator.partial(**arguments).expand(
                    pipeline_name=["fanout"]
                )
            else:
                PolysyncStartPipelineOperator(pipeline_name="fanout", **arguments)
