"""The cost of importing the operators and sensors in a DAG file."""

from __future__ import annotations

import pytest

from tests.packaging.import_cost import OURS, measure


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (OURS, ()),
        ("polysync_airflow.sensors", ()),
        pytest.param("boto3", ("boto3", "botocore"), marks=pytest.mark.nightly),
    ],
)
def test_dag_files_import_nothing_that_takes_time(
    module: str, heavy: tuple[str, ...]
) -> None:
    """
    Importing operators or sensors loads no AWS service models, and nothing that only a
    task needs that runs. boto3 loads the models, so the check works.
    """
    assert measure(module, runs=1).heavy == heavy
