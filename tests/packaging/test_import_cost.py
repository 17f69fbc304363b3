"""The cost of importing the operators in a DAG file."""

from __future__ import annotations

from tests.packaging.import_cost import OURS, measure


def test_operators_import_neither_boto3_nor_botocore() -> None:
    """Importing the operators loads no AWS service models. boto3 does, so the check works."""
    ours, heavy = (measure(module, runs=1) for module in (OURS, "boto3"))

    assert ours.heavy == ()
    assert heavy.heavy == ("boto3", "botocore")
