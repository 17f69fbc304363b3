"""The cost of importing the operators in a DAG file."""

from __future__ import annotations

import pytest

from tests.packaging.import_cost import OURS, measure


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (OURS, ()),
        pytest.param("boto3", ("boto3", "botocore"), marks=pytest.mark.nightly),
    ],
)
def test_operators_import_neither_boto3_nor_botocore(
    module: str, heavy: tuple[str, ...]
) -> None:
    """
    Importing the operators loads no AWS service models. boto3 does, so the check works.
    """
    assert measure(module, runs=1).heavy == heavy
