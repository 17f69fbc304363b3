"""The cost of importing the operators in a DAG file."""

from __future__ import annotations

from tests.packaging.import_cost import MODULES, OURS, measure


def test_operators_import_neither_boto3_nor_botocore() -> None:
    """Importing the operators loads no AWS service models. The amazon provider's do, so the check works."""
    ours, amazon = (measure(module, runs=1) for module in MODULES)

    assert MODULES[0] == OURS
    assert ours.heavy == ()
    assert amazon.heavy == ("boto3", "botocore")
