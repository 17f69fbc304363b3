"""The two providers whose triggers are measured: this one and the amazon provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.util import find_spec
from typing import Any, Final

from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.prices import CostLimit
from polysync_airflow.execution.steps.descriptions import order_text
from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.endpoint.endpoint_process import StartedExecution
from tests.benchmarks.endpoint.operations import STEPS
from tests.benchmarks.workload import Workload

# A timeout, in seconds, that no execution of a benchmark reaches.
TIMEOUT: Final = 24 * 3600


@dataclass(frozen=True)
class Provider:
    """
    A provider.

    :param name: the heading of its column.
    :param trigger: the class path of its trigger.
    :param modules: modules that the trigger imports when it runs.
    :param trigger_arguments: returns the trigger's arguments for an execution and a
        workload.
    :param success: the status in the event of an execution that succeeded.
    :param waits_for_start: whether its triggers wait for the start of the executions,
        as long as others for their end.
    """

    name: str
    trigger: str
    modules: tuple[str, ...]
    trigger_arguments: Callable[[StartedExecution, Workload], dict[str, Any]]
    success: str
    waits_for_start: bool = False


# What a worker hands over of the definition of each pipeline.
DECLARED_STEPS: Final = order_text(
    [DeclaredStep(f"Step{number}", "Processing") for number in range(STEPS)]
)


def _cost_limit(max_cost: float | None) -> str | None:
    """Return the limit of a task, with as many prices as a region has."""
    if max_cost is None:
        return None
    prices = {f"ml.type{number}.xlarge": 1.0 for number in range(250)}
    limit = CostLimit(
        max_cost=max_cost,
        currency="USD",
        prices_date=date(2026, 11, 1),
        prices={**prices, "ml.m5.xlarge": 0.23},
    )
    return limit.model_dump_json()


def _our_arguments(execution: StartedExecution, work: Workload) -> dict[str, Any]:
    return {
        "execution_arn": execution.arn,
        "pipeline_name": execution.pipeline,
        "polysync_conn_id": "polysync_default",
        "region_name": REGION,
        "poll_interval": work.poll_interval,
        "progress_interval": work.progress_interval,
        "declared_steps": DECLARED_STEPS if work.progress_interval else None,
        "cost_limit": _cost_limit(work.max_cost),
        "job_logs": work.job_logs,
        "since": execution.start,
        "deadline": execution.start + TIMEOUT,
    }


def _amazon_arguments(execution: StartedExecution, work: Workload) -> dict[str, Any]:
    return {
        "waiter_type": 1,
        "pipeline_execution_arn": execution.arn,
        "waiter_delay": int(work.poll_interval),
        "waiter_max_attempts": int(TIMEOUT / work.poll_interval),
        "aws_conn_id": "aws_default",
        "region_name": REGION,
    }


def _search_arguments(execution: StartedExecution, work: Workload) -> dict[str, Any]:
    # The window begins with the execution, so that each search means another one.
    begin = datetime.fromtimestamp(execution.start, UTC).isoformat()
    return {
        "search": {
            "pipeline_name": execution.pipeline,
            "created_after": begin,
            "began_at": begin,
        },
        "polysync_conn_id": "polysync_default",
        "region_name": REGION,
        "poll_interval": work.poll_interval,
        "listed_until": None,
        "deadline": execution.start + TIMEOUT,
    }


OURS: Final = Provider(
    name="ours",
    trigger="polysync_airflow.triggers.PolysyncPipelineExecutionTrigger",
    modules=("boto3", "botocore.credentials"),
    trigger_arguments=_our_arguments,
    success="Succeeded",
)
SENSORS: Final = Provider(
    name="sensors",
    trigger="polysync_airflow.triggers.PolysyncPipelineSearchTrigger",
    modules=OURS.modules,
    trigger_arguments=_search_arguments,
    success="found",
    waits_for_start=True,
)
AMAZON: Final = Provider(
    name="amazon provider",
    trigger="airflow.providers.amazon.aws.triggers.sagemaker.SageMakerPipelineTrigger",
    modules=("aiobotocore.session", "aiobotocore.credentials"),
    trigger_arguments=_amazon_arguments,
    success="success",
)


def providers(names: str) -> list[Provider]:
    """
    Return the providers to measure; the amazon provider only if aiobotocore, which its
    triggers need, is installed.

    :param names: ``ours``, ``amazon`` or ``both``.
    """
    selected = {"ours": [OURS], "amazon": [AMAZON], "both": [OURS, AMAZON]}[names]
    return [
        provider
        for provider in selected
        if provider is OURS or find_spec("aiobotocore")
    ]
