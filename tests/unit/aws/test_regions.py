"""What a misspelt region is, and which errors of botocore's are its fault."""

from __future__ import annotations

import socket

import pytest
from botocore.exceptions import EndpointConnectionError
from urllib3.exceptions import NewConnectionError

from polysync_airflow.aws.regions import has_misspelt_region, meant_region, region_cure

HOST = "https://api.sagemaker.eu-centrl-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("region", "meant"),
    [
        ("eu-centrl-1", "eu-central-1"),
        ("ap-souteast-1", "ap-southeast-1"),
        ("cn-nroth-1", "cn-north-1"),
        # botocore knows them, or will.
        ("eu-central-1", None),
        ("us-gov-west-1", None),
        ("eusc-de-east-1", None),
        ("eu-central-9", None),
        ("mars-olympus-1", None),
    ],
)
def test_misspelt_region_is_told_from_a_new_one(region: str, meant: str | None) -> None:
    """A new region differs from the others in its number, or is like none of them."""
    assert meant_region(region) == meant


def connection_error(
    url: str = HOST, number: int = socket.EAI_NONAME
) -> EndpointConnectionError:
    """Return the error for an endpoint whose name could not be resolved."""
    error = NewConnectionError(None, "")  # type: ignore[arg-type]
    error.__cause__ = socket.gaierror(number, "")
    return EndpointConnectionError(endpoint_url=url, error=error)


@pytest.mark.parametrize(
    ("error", "is_misspelt"),
    [
        (connection_error(), True),
        (connection_error("https://sts.eu-centrl-1.amazonaws.com/"), True),
        (connection_error(number=socket.EAI_AGAIN), False),
        (connection_error("https://sagemaker.eu-centrl-1.example.com/"), False),
        (connection_error("not a URL"), False),
        (EndpointConnectionError(endpoint_url=HOST, error=OSError()), False),
        (EndpointConnectionError(endpoint_url=HOST), False),
        (OSError(), False),
    ],
)
def test_only_a_missing_host_of_aws_says_that_its_region_is_misspelt(
    error: Exception, is_misspelt: bool
) -> None:
    """Not an outage, and not an endpoint of the connection's."""
    cure = "there is no region eu-centrl-1. Did you mean eu-central-1?"

    assert region_cure(error) == (cure if is_misspelt else "")
    assert has_misspelt_region(error) is is_misspelt


@pytest.mark.parametrize(
    ("region", "known"),
    [
        ("us-east-7", " botocore knows us-east-1, us-east-2."),
        ("mars-olympus-1", " botocore knows none of this place."),
        ("us-east-1", ""),
    ],
)
def test_region_that_botocore_does_not_know_may_be_new(region: str, known: str) -> None:
    """It is named, with those of the same place; the call may be repeated."""
    error = connection_error(f"https://sts.{region}.amazonaws.com/")

    cure = region_cure(error)

    assert not has_misspelt_region(error)
    assert cure.startswith(f"there is no region {region}, or no network: ") is bool(
        known
    )
    assert cure.endswith(known)
