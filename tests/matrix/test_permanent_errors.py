"""
Errors that no retry cures, where Airflow has no retry policies: the operators apply
them.
"""

from __future__ import annotations

import os
from itertools import chain, repeat
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionFailedError,
    PolysyncError,
    SageMakerApiError,
)
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from tests.tasks import TaskInstance
from tests.unit.airflow_compat.test_task_process import ExitedError, leave
from tests.unit.operators.recovery.harness import MERGE_FAILS, RetryEverything
from tests.world import World

pytestmark = pytest.mark.skipif(
    CAPABILITIES.retry_policy, reason="this Airflow applies retry policies"
)

PERMANENT: list[tuple[Any, type[PolysyncError]]] = [
    (
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="missing"),
        SageMakerApiError,
    ),
    (
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="no spaces"),
        ParametersError,
    ),
    (PolysyncStopPipelineOperator(task_id="t", execution_arn="x"), ParametersError),
    (
        PolysyncListImportOperator(task_id="t", pipeline_names=["missing"]),
        ParametersError,
    ),
]


def error_of(operator: Any) -> Exception:
    """Execute a task that has retries, and return its error as Airflow gets it."""
    ti = TaskInstance("t", max_tries=3)
    context = ti.context(operator)
    with pytest.raises(Exception) as caught:  # noqa: PT011 # the tests look at it
        operator.execute(context)
    return caught.value


@pytest.mark.parametrize(("operator", "cause"), PERMANENT)
def test_permanent_error_uses_no_retries(
    operator: Any, cause: type[PolysyncError], world: World
) -> None:
    """
    The error that Airflow gets forbids retries, and has the message and the error
    itself as its cause.
    """
    error = error_of(operator)

    assert type(error) is AirflowFailException
    assert isinstance(error.__cause__, cause)
    assert str(error) == f"{cause.__name__}: {error.__cause__}"


def test_failed_execution_uses_retries(world: World) -> None:
    """A retry may cure it."""
    world.control.put_scenario(MERGE_FAILS)

    error = error_of(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"))

    assert type(error) is PipelineExecutionFailedError


def test_policy_of_the_author_decides(world: World) -> None:
    """A policy that asks for retries replaces that of the provider."""
    error = error_of(
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="missing", retry_policy=RetryEverything()
        )
    )

    assert type(error) is SageMakerApiError


@pytest.mark.skipif(
    CAPABILITIES.task_sdk, reason="this Airflow accepts no results of earlier tries"
)
@pytest.mark.parametrize("replaced_after", [0, 1], ids=["before", "meanwhile"])
@pytest.mark.parametrize(
    "operator",
    [
        *(operator for operator, _ in PERMANENT),
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="churn-tuning", wait_for_completion=False
        ),
    ],
)
def test_process_of_an_earlier_try_reports_nothing(
    operator: Any, replaced_after: int, world: World
) -> None:
    """Neither its error nor its success, which would be those of the later try."""
    ti: Any = TaskInstance("t", max_tries=3)
    ti.raw = True
    newest = chain([1] * replaced_after, repeat(2))
    world.patch.setattr(supervisor, "newest_try_number", lambda _: next(newest))
    world.patch.setattr(os, "_exit", leave)

    with pytest.raises(ExitedError):
        operator.execute(ti.context(operator))
