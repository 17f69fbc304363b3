"""
Values of parameters that Airflow cannot store: numbers are sent as their texts, texts
are refused with the DAG.
"""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.sensors import PolysyncPipelineSensor
from sagemaker_emulator import EmulatorServer
from tests.fakes.airflow_encoding import check_dag, check_task
from tests.tasks import run_task
from tests.world import START

VALUES = {"MaxJobs": 10**30, "AucThreshold": -1e30, "InputData": float("nan")}


def test_large_numbers_are_sent_as_their_texts(emulator: EmulatorServer) -> None:
    """
    Airflow can send the DAG and the rendered arguments, also of mapped tasks; AWS gets
    the text in any case.
    """
    with DAG("large", schedule=None) as dag:
        task = PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name="churn-tuning",
            pipeline_parameters=VALUES,
            wait_for_completion=False,
        )
        mapped: Any = PolysyncStartPipelineOperator.partial(
            task_id="mapped", pipeline_parameters=VALUES
        )
        mapped.expand(pipeline_name=["a"])
        sensor = PolysyncPipelineSensor(
            task_id="wait", pipeline_name="churn-tuning", parameters=VALUES
        )

    run = run_task(task)

    check_dag(dag)
    check_task(task)
    check_task(sensor)
    assert run.error is None
    (call,) = emulator.control.calls(START)
    sent = {
        each["Name"]: each["Value"] for each in call["request"]["PipelineParameters"]
    }
    assert sent == {name: str(value) for name, value in VALUES.items()}
    assert sent == run.xcoms["run"]["parameters"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("\ud800", r"'\\ud800'"), ("a\x00", r"'a\\x00'"), (10**5000, "a very large int")],
    ids=["surrogate", "NUL", "digits"],
)
def test_value_that_airflow_cannot_store_is_refused_with_the_dag(
    value: Any, shown: str
) -> None:
    """
    The error names the parameter; without it, the process that parses the file could
    not send the DAG.
    """
    with pytest.raises(
        ParametersError,
        match=rf"^pipeline_parameters\['A'\] = {shown} is not valid: give a text",
    ):
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="x", pipeline_parameters={"A": value}
        )


def test_values_from_an_xcom_are_no_templates() -> None:
    """Airflow tells by its identity what a mapped task has got from another one."""
    values = {"Name": "{{ conn.other.password }}"}
    task = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", pipeline_parameters=values
    )

    rendered = task.render_template(
        task.pipeline_parameters, {}, seen_oids={id(values)}
    )

    assert rendered == values
