"""Owns the comparison of outcomes: our operators and the amazon provider's, through the same rows.

::

    python -m tests.comparison.amazon_outcomes > outcomes.md

Runs the real operators and triggers of both against our emulator, and prints a Markdown table of what was
seen. Needs ``apache-airflow-providers-amazon[aiobotocore]``, ``moto[server]`` and an installed Polysync. Time
is emulated, in botocore's own retries too, so that hours of waiting take seconds.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from unittest.mock import patch

from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerStartPipelineOperator,
    SageMakerStopPipelineOperator,
)
from airflow.sdk import BaseOperator
from structlog.testing import capture_logs

from polysync_airflow.operators import PolysyncStartPipelineOperator, PolysyncStopPipelineOperator
from tests.comparison.outcome import outcome_of
from tests.comparison.rows import ROWS, Row
from tests.comparison.world import INTERVAL, MOST_LOOKS, World, emulated

ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
PACKAGES = (
    "polysync-airflow",
    "apache-airflow-providers-amazon",
    "apache-airflow",
    "botocore",
    "aiobotocore",
)


def ours(row: Row, arn: str | None, deferrable: bool) -> BaseOperator:
    """Return our task for a row."""
    arguments = {
        "task_id": "compared",
        "poll_interval": INTERVAL,
        "deferrable": deferrable,
        **row.both,
        **row.ours,
    }
    if arn:
        return PolysyncStopPipelineOperator(execution_arn=arn, **arguments)
    return PolysyncStartPipelineOperator(pipeline_name=row.pipeline, **arguments)


def amazon(row: Row, arn: str | None, deferrable: bool) -> BaseOperator:
    """Return the amazon provider's task for a row."""
    arguments = {
        "task_id": "compared",
        "check_interval": INTERVAL,
        "deferrable": deferrable,
        "wait_for_completion": True,
        **row.both,
        **row.amazon,
    }
    operator: BaseOperator = (
        SageMakerStopPipelineOperator(pipeline_exec_arn=arn, **arguments)
        if arn
        else SageMakerStartPipelineOperator(pipeline_name=row.pipeline, **arguments)
    )
    return operator


def cell(
    row: Row, side: Callable[[Row, str | None, bool], BaseOperator], deferrable: bool, world: World
) -> str:
    """Let a row happen to one operator in one mode, and say what was seen."""
    control = world.emulator.control
    control.reset()
    world.clock.begin()
    for stage in row.stages:
        stage(world)
    arn = None
    if row.stop_after is not None:
        sent = [{"Name": name, "Value": value} for name, value in row.parameters.items()]
        started = world.client.start_pipeline_execution(PipelineName=row.pipeline, PipelineParameters=sent)
        arn = started["PipelineExecutionArn"]
        world.clock.sleep(row.stop_after)
        world.clock.looks = 0
        control.clear_calls()
    with patch.dict(os.environ, row.host), capture_logs():
        outcome = outcome_of(side(row, arn, deferrable), world.clock)
    facts = [fact(world, outcome) for fact in row.facts]
    control.remove_faults()
    return "; ".join([outcome.ending, left_behind(world.execution(row.pipeline)), *facts])


def left_behind(execution: dict[str, Any] | None) -> str:
    """Say what the task left in AWS."""
    if execution is None:
        return "nothing started"
    status = execution["PipelineExecutionStatus"]
    if status in ENDED:
        return f"execution {status}"
    if status == "Stopping":
        return "execution asked to stop"
    return f"**execution left running** ({status})"


def line(row: Row, world: World) -> str:
    """Return a row of the table."""
    here, deferred = (cell(row, ours, deferrable, world) for deferrable in (False, True))
    both = here if here == deferred else f"sync: {here}<br>deferred: {deferred}"
    cells = [row.name, both, *(cell(row, amazon, deferrable, world) for deferrable in (False, True))]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table."""
    try:
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    print(
        f"{versions}. A look every {INTERVAL} emulated seconds, a wait is cut off after {MOST_LOOKS}; ARN is "
        "the execution's ARN; what no row names has its default, but wait_for_completion is True.\n"
    )
    print("| row | ours (both modes alike unless told) | amazon sync | amazon deferred |\n|---|---|---|---|")
    with emulated() as world:
        for row in ROWS:
            print(line(row, world), flush=True)
    print(f"\n{len(ROWS)} rows took {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
