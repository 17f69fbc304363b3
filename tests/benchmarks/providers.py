"""Owns the two providers whose triggers are measured: ours, and amazon's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from tests.benchmarks.endpoint.account import REGION
from tests.benchmarks.endpoint.running import Started

# A time that no execution of a benchmark takes.
LONG: Final = 24 * 3600


@dataclass(frozen=True)
class Provider:
    """
    A provider.

    :param name: the column's.
    :param trigger: the class path of its trigger.
    :param modules: what the trigger imports as it runs.
    :param arguments: the trigger's, for an execution and the seconds between two looks.
    :param success: the status in a success's event.
    """

    name: str
    trigger: str
    modules: tuple[str, ...]
    arguments: Callable[[Started, float], dict[str, Any]]
    success: str


def _ours(execution: Started, poll: float) -> dict[str, Any]:
    return {
        "execution_arn": execution.arn,
        "pipeline_name": execution.pipeline,
        "polysync_conn_id": "polysync_default",
        "region_name": REGION,
        "poll_interval": poll,
        "since": execution.begins,
        "deadline": execution.begins + LONG,
    }


def _amazon(execution: Started, poll: float) -> dict[str, Any]:
    return {
        "waiter_type": 1,
        "pipeline_execution_arn": execution.arn,
        "waiter_delay": int(poll),
        "waiter_max_attempts": int(LONG / poll),
        "aws_conn_id": "aws_default",
        "region_name": REGION,
    }


OURS: Final = Provider(
    name="ours",
    trigger="polysync_airflow.triggers.PolysyncPipelineExecutionTrigger",
    modules=("boto3", "botocore.credentials"),
    arguments=_ours,
    success="Succeeded",
)
AMAZON: Final = Provider(
    name="amazon provider",
    trigger="airflow.providers.amazon.aws.triggers.sagemaker.SageMakerPipelineTrigger",
    modules=("aiobotocore.session", "aiobotocore.credentials"),
    arguments=_amazon,
    success="success",
)


def providers(names: str) -> list[Provider]:
    """
    Return the providers to measure. The amazon provider's triggers cannot run without aiobotocore.

    :param names: ``ours``, ``amazon`` or ``both``.
    """
    found = {"ours": [OURS], "amazon": [AMAZON], "both": [OURS, AMAZON]}[names]
    return [provider for provider in found if provider is OURS or find_spec("aiobotocore")]
