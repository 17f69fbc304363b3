"""
The whole of what fills a queue, and which values are refused. ``tests/unit/cli`` creates it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events import QueueSetup, cloudformation

SETUP = QueueSetup(
    queue="changes",
    pipelines=("Churn", "abalone"),
    steps=True,
    model_packages=True,
    model_package_groups=("g", "h"),
    max_receives=7,
)
PREFIX = "arn:aws:sagemaker:us-east-1"
EXPECTED: Any = json.loads(Path(__file__).with_name("resources.json").read_text())
ENDS = ["Succeeded", "Failed", "CompletedWithFailures", "Stopped"]


RUNNING = QueueSetup("q", running=True)
OWN = f"{PREFIX}:123456789012:pipeline"
MANY_GROUPS = tuple(f"{'g' * 60}{number}" for number in range(40))


def of_pipelines(*names: str) -> dict[str, Any]:
    """Return the detail of a rule for pipelines."""
    return {"pipelineArn": [{"suffix": f":pipeline/{name}"} for name in names]}


def reader_policy(arn: str) -> dict[str, Any]:
    """Return a policy of a reader."""
    return {"Statement": [{"Action": ["sqs:ReceiveMessage"], "Resource": [arn, "x"]}]}


def test_template_has_all_that_fills_the_queue() -> None:
    """The template."""
    assert cloudformation(SETUP, reader_policy) == EXPECTED


@pytest.mark.parametrize(
    ("setup", "details"),
    [
        (QueueSetup("q"), {"executions": {"currentPipelineExecutionStatus": ENDS}}),
        (RUNNING, {"executions": None}),
        (RUNNING._replace(steps=True), {"executions": None, "steps": None}),
        (
            RUNNING._replace(pipelines=("A",), model_packages=True),
            {"executions": of_pipelines("A", "a"), "model-packages": None},
        ),
        # AWS manages the second.
        (
            RUNNING._replace(pipelines=(f"{OWN}/A", f"{PREFIX}:aws:pipeline/b")),
            {"executions": of_pipelines("A", "a", "b")},
        ),
        (
            RUNNING._replace(model_package_groups=("g",)),
            {"executions": None, "model-packages": {"ModelPackageGroupName": ["g"]}},
        ),
    ],
)
def test_rule_has_a_detail_only_for_names_or_statuses(
    setup: QueueSetup, details: dict[str, Any]
) -> None:
    """A rule without names or statuses has no detail, and so matches all."""
    setup.check()

    assert {name: rule.get("detail") for name, rule in setup.rules().items()} == details
    for rule in setup.rules().values():
        assert rule.keys() >= {"source", "detail-type"}


@pytest.mark.parametrize(
    ("setup", "problem"),
    [
        (QueueSetup("q", max_receives=2), "--max-receives 2: give 3 to 1000."),
        (QueueSetup("q", max_receives=1001), "--max-receives 1001: give 3 to 1000."),
        (
            QueueSetup("q", model_package_groups=MANY_GROUPS),
            (
                "The pattern of the rule model-packages has more than 2,048"
                " characters: name fewer pipelines or groups, or none for all, and let"
                " the watchers select."
            ),
        ),
    ],
)
def test_value_beyond_a_limit_is_refused_with_its_option(
    setup: QueueSetup, problem: str
) -> None:
    """The error names the option, its value and the cure."""
    with pytest.raises(ParametersError) as caught:
        setup.check()

    assert str(caught.value) == problem


def test_values_at_the_limits_are_allowed() -> None:
    """
    The largest values, and a pattern of exactly the length that EventBridge allows.
    """
    QueueSetup("q" * 48, max_receives=3).check()
    QueueSetup("q", max_receives=1000).check()
    names = [f"{'g' * 58}{number}" for number in range(10, 39)]
    with_empty_name = QueueSetup("q", model_package_groups=(*names, ""))
    length = len(json.dumps(with_empty_name.rules()["model-packages"]))
    last_name = "g" * (2048 - length)
    setup = QueueSetup("q", model_package_groups=(*names, last_name))

    setup.check()
    assert 1 <= len(last_name) <= 63
    assert len(json.dumps(setup.rules()["model-packages"])) == 2048
