"""
What the events of a Start task's assets say about its execution. Real DAG runs are in
``test_example_dags.py``.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, Asset, AssetAlias

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.console import execution_url
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.operators.reporting import attach_to_outlets, execution_extra
from tests.conftest import ARN
from tests.tasks import TaskInstance

MODELS = [
    f"arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/{version}"
    for version in range(200)
]
MODEL_ASSET = Asset(uri="s3://ml-bucket/models/churn")
EXTRA = {"execution_arn": ARN, "console_url": execution_url(ARN, "fanout")}


@pytest.fixture
def context() -> Any:
    """
    The part of a task's context that holds its asset events: Airflow's own object.
    """
    module = (
        "airflow.sdk.execution_time.context"
        if CAPABILITIES.task_sdk
        else "airflow.utils.context"
    )
    return {
        "ti": TaskInstance("train"),
        "outlet_events": import_module(module).OutletEventAccessors(),
    }


def alias_extras(context: Any, alias: Any) -> list[dict[str, Any]]:
    """Return the extras of the events that an alias has."""
    name = "asset_alias_events" if CAPABILITIES.task_sdk else "dataset_alias_events"
    events = getattr(context["outlet_events"][alias], name)
    return [
        event["extra"] if isinstance(event, dict) else event.extra for event in events
    ]


def test_event_of_an_asset_gets_the_extra(context: Any) -> None:
    """
    The extra is added to what a hook of the task has put there, and overrides only its
    own members.
    """
    context["outlet_events"][MODEL_ASSET].extra.update(
        {"rows": 7, "execution_arn": "mine"}
    )

    attach_to_outlets(context, [MODEL_ASSET], execution_extra(ARN, "fanout"))

    assert context["outlet_events"][MODEL_ASSET].extra == {"rows": 7, **EXTRA}


def test_events_of_an_alias_get_the_extra(context: Any) -> None:
    """
    Each asset that a hook has added gets the extra; a hook that runs later can read it
    from the alias.
    """
    alias = AssetAlias("models")
    for uri in ("s3://ml-bucket/a", "s3://ml-bucket/b"):
        context["outlet_events"][alias].add(Asset(uri=uri), extra={"uri": uri})

    attach_to_outlets(
        context, [alias], execution_extra(ARN, "fanout", model_package_arns=MODELS[:1])
    )

    expected = {**EXTRA, "model_package_arns": (MODELS[0],)}
    assert alias_extras(context, alias) == [
        {"uri": uri, **expected} for uri in ("s3://ml-bucket/a", "s3://ml-bucket/b")
    ]
    assert context["outlet_events"][alias].extra == expected
    # Airflow 2 builds a frozenset of the items, and fails the task if a value cannot be
    # hashed.
    assert frozenset(context["outlet_events"][alias].extra.items())


def test_alias_without_assets_has_no_event(context: Any) -> None:
    """An alias that no hook has given an asset still has no event."""
    alias = AssetAlias("models")

    attach_to_outlets(context, [alias], execution_extra(ARN, "fanout"))

    assert alias_extras(context, alias) == []


def test_model_packages_are_checked_and_bounded() -> None:
    """
    At most 100 model packages are taken, each once, and what is not the ARN of one is
    left out.
    """
    foreign: list[Any] = [
        "",
        None,
        7,
        ARN,
        MODELS[0] + "\n",
        MODELS[0] + "x" * 3000,
        ["a"],
    ]

    extra = execution_extra(
        ARN, "fanout", model_package_arns=[*foreign, MODELS[0], *MODELS]
    )

    assert extra["model_package_arns"] == tuple(MODELS[:100])
    assert json.loads(json.dumps(extra)) == {
        **EXTRA,
        "model_package_arns": MODELS[:100],
    }


def test_members_without_a_value_are_left_out() -> None:
    """
    No model package, no console in the partition, or no known pipeline: the member is
    missing.
    """
    isolated = ARN.replace("arn:aws:", "arn:aws-iso:")

    assert execution_extra(ARN, "fanout", model_package_arns=["no ARN"]) == EXTRA
    assert execution_extra(isolated, "fanout") == {"execution_arn": isolated}
    assert execution_extra(ARN, None) == {"execution_arn": ARN}


def test_other_outlets_are_left_alone(context: Any) -> None:
    """Airflow allows outlets of any type, for lineage; they have no events."""
    attach_to_outlets(context, [object(), "s3://ml-bucket/a", MODEL_ASSET], EXTRA)

    assert len(context["outlet_events"]) == 1
    assert context["outlet_events"][MODEL_ASSET].extra == EXTRA


def test_error_does_not_fail_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """
    An execution that has succeeded stays a success if Airflow has no event for an
    outlet.
    """
    context: Any = {}

    attach_to_outlets(context, [MODEL_ASSET], EXTRA)

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "does not name the execution: 'outlet_events'" in record.getMessage()


def test_skipped_task_attaches_nothing(context: Any) -> None:
    """A task that does not succeed has no asset event, so nothing is attached."""
    task = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        outlets=[MODEL_ASSET],
        on_cancelled="skip",
    )
    event = {
        "outcome": "ended",
        "execution_arn": ARN,
        "pipeline_name": "fanout",
        "status": "Stopped",
        "message": None,
        "started_at": None,
        "ended_at": None,
    }

    with pytest.raises(AirflowSkipException):
        task.execute_complete(context, event)

    assert len(context["outlet_events"]) == 0
