"""
Whatever users can name is documented. The code says what there is; the tests have no
lists of it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from importlib import import_module
from typing import Any

import attrs
import pytest

from polysync_airflow import exceptions, operators, sensors, task_groups
from polysync_airflow.execution import results
from polysync_airflow.execution.steps.descriptions import STEP_KINDS
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.lineage import (
    SageMakerExecutionRunFacet,
    SageMakerPipelineJobFacet,
)
from polysync_airflow.operators.base import PolysyncOperator
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from polysync_airflow.triggers.step_tasks import WITHOUT_TRIGGERER
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.packaging.layers import LAYERS
from tests.pages import page
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.triggers.test_step_tasks import ExecutionTask

INFO = get_provider_info()
OPERATORS: list[Any] = [
    value
    for name in operators.__all__
    if isinstance(value := getattr(operators, name), type)
]
SENSORS = [getattr(sensors, name) for name in sensors.__all__]


def test_every_argument_of_the_group_of_steps_is_documented() -> None:
    """
    Beside those of the class: those that its tasks share, those of the group, and those
    that it refuses.
    """
    text = page("reference/operators.md").section("PolysyncPipelineTaskGroup")

    assert {
        name
        for name in {*task_groups._SHARED, *task_groups._OWN}
        if f"`{name}`" not in text
    } == set()


def test_every_retry_policy_argument_is_documented() -> None:
    """The argument that all operators inherit is documented, too."""
    arguments = set(inspect.signature(PolysyncOperator.__init__).parameters) - {
        "self",
        "kwargs",
    }

    common = page("reference/operators.md").section("Operators")

    assert {name for name in arguments if f"`{name}`" not in common} == set()


def test_every_config_option_is_documented() -> None:
    """Each option is in the table, with its default."""
    (section,) = INFO["config"]
    rows = page("reference/connection.md").rows("Config options")

    assert set(rows) - {"Option"} >= set(INFO["config"][section]["options"])
    for name, option in INFO["config"][section]["options"].items():
        default = rows[name].split("|")[0].replace("`", "").replace(", ", ",").strip()
        assert default == (option["default"] or "none"), name


def test_whatever_a_cost_lacks_is_in_the_table_of_what_is_counted() -> None:
    """Each noun that a note may have, in the code that makes it."""
    table = page("how-to/limit-costs.md").section("What is counted?")
    nouns = {kind.uncounted for kind in STEP_KINDS.values() if kind.uncounted}
    for node in ast.walk(ast.parse(inspect.getsource(results))):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Constant):
            nouns.add(str(node.value.value))
        elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Name):
            nouns |= {getattr(results, node.value.id, "")}

    assert "warm pools from now on" in nouns
    assert [noun for noun in sorted(nouns) if noun not in table] == []


def test_every_error_is_documented() -> None:
    """
    Each public error class is in the table, and in the part that is made from the
    docstrings.
    """
    errors = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type)
        and issubclass(value, exceptions.PolysyncError)
        and not name.startswith("_")
    }
    reference = page("reference/errors.md")

    assert {
        name for name in errors if name not in reference.prose.split("\n::: ")[0]
    } == set()
    assert set(re.findall(r"^ +- (\w+)$", reference.text, re.MULTILINE)) == errors


@pytest.mark.parametrize("deferrable", [False, True])
def test_every_xcom_is_documented(
    emulated_time: EmulatedTime,
    emulator: Any,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks push the keys that the page lists, and the page lists no others."""
    text = connection(
        endpoint_url=emulator.endpoint_url,
        studio_domain_id="d-abcdefghijkl",
        unified_studio_url="https://dzd-abc.sagemaker.us-east-1.on.aws",
    )
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)
    prices = {
        "currency": "USD",
        "date": "2026-11-01",
        "prices": {"us-east-1": {"ml.m5.xlarge": 0.23}},
    }
    option = "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES"
    monkeypatch.setenv(option, json.dumps(prices))
    emulator.control.put_scenario(
        {"steps": {"AbaloneTrain": {"fail": {"reason": "No data"}}}}
    )
    start = run_task(
        operators.PolysyncStartPipelineOperator(
            task_id="start",
            pipeline_name="abalone",
            pipeline_parameters={"InputDataUrl": "s3://ml-bucket/abalone.csv"},
            max_cost=1000,
            deferrable=deferrable,
        )
    )
    stop = run_task(
        operators.PolysyncStopPipelineOperator(
            task_id="stop",
            execution_arn=start.xcoms["execution_arn"],
            deferrable=deferrable,
        )
    )
    reference = page("reference/xcoms.md")
    rows = reference.rows("What PolysyncStartPipelineOperator pushes")
    documented = {name for keys in rows for name in keys.split(", ")} - {"XCom"}

    # Airflow itself stores what operators return, and what a button shows.
    refused = run_task(
        operators.PolysyncStartPipelineOperator(task_id="t", pipeline_name="no good")
    )
    keys = {*start.xcoms, *refused.xcoms, "return_value"}
    pushed = {key for key in keys if not key.startswith("_link_")}

    assert isinstance(start.error, exceptions.PipelineExecutionFailedError)
    assert pushed == documented
    for key in (key for key in stop.xcoms if not key.startswith("_link_")):
        assert f"`{key}`" in reference.prose


def test_every_xcom_of_a_step_is_documented(
    emulated_time: EmulatedTime, emulator: EmulatorServer
) -> None:
    """
    The task of a step pushes the keys that the page lists, and the page lists no
    others.
    """
    execution = ExecutionTask(emulator)
    emulated_time.sleep(7200)
    operator = PolysyncPipelineStepOperator(
        task_id="Train", execution_task_id="execution", step_name="Train"
    )
    ti = TaskInstance("Train")
    operator.execute_complete(ti.context(operator), WITHOUT_TRIGGERER)

    rows = page("reference/xcoms.md").rows("What the task of a step pushes")

    documented = {name for keys in rows for name in keys.split(", ")} - {
        "XCom of a step's task"
    }
    assert execution.arn == ti.xcoms["execution_arn"]
    assert {key for key in ti.xcoms if not key.startswith("_link_")} | {
        "return_value"
    } == documented


def test_every_link_is_documented() -> None:
    """
    Each button that the provider registers, and that an operator has, is in the tables.
    """
    classes = {
        path.rsplit(".", 1)[1]: path.rsplit(".", 1)[0] for path in INFO["extra-links"]
    }
    buttons = {
        (getattr(import_module(module), name).name, name)
        for name, module in classes.items()
    }
    tasks = [*OPERATORS, *SENSORS, PolysyncPipelineStepOperator]
    buttons |= {
        (link.name, type(link).__name__)
        for each in tasks
        for link in each.operator_extra_links
    }

    text = page("reference/xcoms.md").section("Buttons")

    assert (
        set(re.findall(r"^\| \*\*([^|]+)\*\* \| `(\w+)` \|", text, re.MULTILINE))
        == buttons
    )


def test_every_connection_field_is_documented() -> None:
    """
    The page has each field of the connection form, with the same label and JSON name.
    """
    (connection_type,) = INFO["connection-types"]
    documented = page("reference/connection.md").rows("Fields")

    for name, field in connection_type["conn-fields"].items():
        assert f"`extra.{name}`" in documented[field["label"]]
    for name, label in connection_type["ui-field-behaviour"]["relabeling"].items():
        assert f"`{name}`" in documented[label]


def test_every_entry_of_the_package_is_in_the_map() -> None:
    """
    The map of the code has each module and folder at the top of the package, in the
    order in which they may import each other.
    """
    text = page("explanation/architecture.md").section("Map of the code")
    layers = [
        set(re.findall(r"`(\w+)(?:/|\.py)`", entries))
        for entries in re.findall(r"^\d+\. (.+)$", text, re.MULTILINE)
    ]

    assert layers == [layer - {"__init__"} for layer in LAYERS]


def test_members_of_the_lineage_facets_are_documented() -> None:
    """The page about lineage has each member of the facets."""
    text = page("how-to/lineage.md").text
    members = {
        field.name
        for facet in (SageMakerPipelineJobFacet, SageMakerExecutionRunFacet)
        for field in attrs.fields(facet)
        if not field.name.startswith("_")
    }

    assert {name for name in members if f"`{name}`" not in text} == set()
