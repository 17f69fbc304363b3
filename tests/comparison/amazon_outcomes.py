"""
Compares the outcomes of this provider's operators with those of the amazon provider, in
the same test cases.

::

    python -m tests.comparison > outcomes.md

It runs the real operators and triggers of both providers against the emulator, and
prints a Markdown table of the outcomes. It needs
``apache-airflow-providers-amazon[aiobotocore]``, ``moto[server]`` and the installed
provider. Time is emulated, including the backoff of botocore's retries, so that hours
take seconds.
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

from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from tests.comparison.cases import CASES, Case
from tests.comparison.environment import INTERVAL, MAX_POLLS, Environment, emulated
from tests.comparison.outcome import outcome_of

ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
PACKAGES = (
    "polysync-airflow",
    "apache-airflow-providers-amazon",
    "apache-airflow",
    "botocore",
    "aiobotocore",
)


def ours(case: Case, arn: str | None, deferrable: bool) -> BaseOperator:
    """Return this provider's task for a test case."""
    arguments = {
        "task_id": "compared",
        "poll_interval": INTERVAL,
        "deferrable": deferrable,
        **case.both,
        **case.ours,
    }
    if arn:
        return PolysyncStopPipelineOperator(execution_arn=arn, **arguments)
    return PolysyncStartPipelineOperator(pipeline_name=case.pipeline, **arguments)


def amazon(case: Case, arn: str | None, deferrable: bool) -> BaseOperator:
    """Return the amazon provider's task for a test case."""
    arguments = {
        "task_id": "compared",
        "check_interval": INTERVAL,
        "deferrable": deferrable,
        "wait_for_completion": True,
        **case.both,
        **case.amazon,
    }
    operator: BaseOperator = (
        SageMakerStopPipelineOperator(pipeline_exec_arn=arn, **arguments)
        if arn
        else SageMakerStartPipelineOperator(pipeline_name=case.pipeline, **arguments)
    )
    return operator


def cell(
    case: Case,
    operator: Callable[[Case, str | None, bool], BaseOperator],
    deferrable: bool,
    environment: Environment,
) -> str:
    """Run a test case with one operator in one mode, and return the outcome as text."""
    control = environment.emulator.control
    control.reset()
    environment.clock.reset()
    for preparation in case.preparations:
        preparation(environment)
    arn = None
    if case.stop_after is not None:
        parameters = [
            {"Name": name, "Value": value} for name, value in case.parameters.items()
        ]
        started = environment.client.start_pipeline_execution(
            PipelineName=case.pipeline, PipelineParameters=parameters
        )
        arn = started["PipelineExecutionArn"]
        environment.clock.sleep(case.stop_after)
        environment.clock.polls = 0
        control.clear_calls()
    with patch.dict(os.environ, case.host), capture_logs():
        outcome = outcome_of(operator(case, arn, deferrable), environment.clock)
    observations = [observe(environment, outcome) for observe in case.observations]
    control.remove_faults()
    return "; ".join(
        [
            outcome.ending,
            execution_outcome(environment.execution(case.pipeline)),
            *observations,
        ]
    )


def execution_outcome(execution: dict[str, Any] | None) -> str:
    """Describe the state of the execution after the task."""
    if execution is None:
        return "nothing started"
    status = execution["PipelineExecutionStatus"]
    if status in ENDED:
        return f"execution {status}"
    if status == "Stopping":
        return "stop of the execution requested"
    return f"**execution left running** ({status})"


def line(case: Case, environment: Environment) -> str:
    """Return a line of the table."""
    synchronous, deferred = (
        cell(case, ours, deferrable, environment) for deferrable in (False, True)
    )
    both = (
        synchronous
        if synchronous == deferred
        else f"sync: {synchronous}<br>deferred: {deferred}"
    )
    cells = [
        case.name,
        both,
        *(cell(case, amazon, deferrable, environment) for deferrable in (False, True)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print the table; return the exit status."""
    try:
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        print(f"Not installed: {error}", file=sys.stderr)
        return 1
    logging.disable(logging.CRITICAL)
    start = time.monotonic()
    print(
        f"{versions}. The poll interval is {INTERVAL} emulated seconds; a wait is cut off after {MAX_POLLS} polls. "
        "ARN is the execution's ARN. Arguments have their defaults unless the test case names them, except that "
        "wait_for_completion is True.\n"
    )
    print(
        "| test case | ours (one text if both modes are equal) | amazon sync | amazon deferred |\n|---|---|---|---|"
    )
    with emulated() as environment:
        for case in CASES:
            print(line(case, environment), flush=True)
    print(f"\n{len(CASES)} test cases took {time.monotonic() - start:.0f} s.")
    return 0
