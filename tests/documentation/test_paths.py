"""
The paths through the code on the page Architecture, compared with what a run of a task
does.
"""

from __future__ import annotations

from functools import partial

import pytest

from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.documentation.traces import assert_documented, contains, traced
from tests.tasks import EmulatedTime, run_task
from tests.unit.operators.recovery.harness import START, RequestInterceptor

pytestmark = pytest.mark.documentation

# Neither AWS nor the example pipelines have this text.
VALUE = "value-that-is-followed"


def test_path_of_a_status(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """From the response with the final status to the error of the task."""
    emulator.control.put_scenario({"end_as": "CompletedWithFailures"})
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=True
    )

    with traced(
        partial(contains, wanted="CompletedWithFailures"), "aws/", "auth/"
    ) as found:
        run_task(operator)

    assert_documented("A status from AWS to the task's state", found)


def test_path_of_a_parameter(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the argument of the operator to the request."""
    sent: list[str] = []
    with traced(partial(contains, wanted=VALUE), "aws/", "auth/") as found:
        RequestInterceptor(monkeypatch).before(START, lambda _: sent.extend(found))
        operator = PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name="abalone",
            pipeline_parameters={"InputDataUrl": VALUE},
            wait_for_completion=False,
        )
        run_task(operator)

    assert_documented("A parameter from the DAG to AWS", sent)
