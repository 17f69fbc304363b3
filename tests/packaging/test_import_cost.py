"""What a DAG file that imports our operators does not pay for."""

from __future__ import annotations

from tests.packaging.import_cost import MODULES, OURS, measure


def test_operators_import_neither_boto3_nor_botocore() -> None:
    """Parsing a DAG file does not load AWS's service models; the amazon provider's operators show that we look."""
    ours, theirs = (measure(module, runs=1) for module in MODULES)

    assert MODULES[0] == OURS
    assert ours.heavy == ()
    assert theirs.heavy == ("boto3", "botocore")
