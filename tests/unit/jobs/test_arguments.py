"""What imported texts become in the arguments of a task: never templates."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.jobs import start_arguments
from polysync_airflow.operators import PolysyncStartPipelineOperator

SECRET = "the-other-password"
TEMPLATE = "{{ conn.other.password }}"


def job(**changes: Any) -> dict[str, Any]:
    """Return an imported job."""
    parameters = [
        {"name": "Text", "type": "String", "default": TEMPLATE, "enum_values": None},
        {"name": TEMPLATE, "type": "String", "default": "x", "enum_values": None},
        {"name": "Number", "type": "Integer", "default": 5, "enum_values": None},
        {"name": "Required", "type": "String", "default": None, "enum_values": None},
    ]
    return {"name": "churn", "parameters": parameters, **changes}


def rendered(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments after Airflow has rendered the templates of a Start task."""
    with DAG("d", schedule=None):
        operator = PolysyncStartPipelineOperator(task_id="t", **arguments)

    class Connection:
        password = SECRET

    operator.render_template_fields({"conn": {"other": Connection()}})
    return {name: getattr(operator, name) for name in arguments}


def test_values_are_not_rendered() -> None:
    """
    Default values with templates reach AWS as they are, and parameters without a
    default are left out.
    """
    arguments = rendered(start_arguments(job()))

    assert arguments == {
        "pipeline_name": "churn",
        "pipeline_parameters": {"Text": TEMPLATE, TEMPLATE: "x", "Number": 5},
    }


def test_an_empty_default_is_left_to_aws() -> None:
    """A request cannot contain an empty value; AWS uses the default by itself."""
    empty = {"name": "Note", "type": "String", "default": "", "enum_values": None}

    arguments = rendered(start_arguments(job(parameters=[empty])))

    assert arguments == {"pipeline_name": "churn", "pipeline_parameters": {}}
