"""
Scenarios in which the triggerer of a sensor dies. The sensor goes on in another one,
and only reads from AWS.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    running_triggerer,
    wait_for_end,
    wait_for_takeover,
)

LIST: Final = "ListPipelineExecutions"
DESCRIBE_MODEL_PACKAGE: Final = "DescribeModelPackage"


def killed_while_looking(run: Run) -> Steps:
    """
    The triggerer dies before the execution exists that the sensor looks for. Then
    somebody starts it.
    """
    run.start()
    yield from _wait_until_triggerer_calls(run, lambda: run.calls(LIST))
    yield from _kill_triggerer(run)
    run.start_execution()
    yield from run.wait_for_hold()
    yield from run.until(
        "the sensor has found the execution", lambda: bool(run.calls(DESCRIBE))
    )
    run.release()
    yield from wait_for_end(run)
    _require_only_reads(run, run.all_calls())


def killed_while_waiting(run: Run) -> Steps:
    """The triggerer dies while the execution runs that the sensor was given."""
    run.start_for_execution()
    yield from _wait_until_triggerer_calls(run, lambda: run.calls(DESCRIBE))
    yield from _kill_triggerer(run)
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)
    _require_only_reads(run, run.all_calls())


def killed_before_approval(run: Run) -> Steps:
    """
    The triggerer dies while a model waits for its approval. Then somebody approves the
    model.
    """
    arn = run.start_for_model_package()

    def calls() -> list[dict[str, Any]]:
        return [
            call
            for call in run.deployment.calls.all("")
            if arn in call["request"].values()
        ]

    yield from _wait_until_triggerer_calls(
        run,
        lambda: [
            call for call in calls() if call["operation"] == DESCRIBE_MODEL_PACKAGE
        ],
    )
    yield from _kill_triggerer(run)
    run.deployment.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved"
    )
    yield from wait_for_end(run)
    _require_only_reads(run, calls())


def _wait_until_triggerer_calls(
    run: Run, calls: Callable[[], list[dict[str, Any]]]
) -> Steps:
    yield from run.until(
        "the task is deferred",
        lambda: run.all_in("deferred") and run.triggerer() is not None,
    )
    run.deployment.calls.refresh()
    # The worker has called before it deferred the task.
    before = len(calls())
    yield from run.until("the triggerer calls AWS", lambda: len(calls()) > before)


def _kill_triggerer(run: Run) -> Steps:
    name = running_triggerer(run)
    run.deployment.airflow.components[name].signal(signal.SIGKILL)
    yield from wait_for_takeover(run, name)


def _require_only_reads(run: Run, calls: list[dict[str, Any]]) -> None:
    operations = {call["operation"] for call in calls}
    others = sorted(
        each for each in operations if not each.startswith(("Describe", "List"))
    )
    run.require(
        bool(operations) and not others,
        f"Airflow has called {others or 'nothing'} in AWS",
    )
