"""``polysync prices``: the table of prices, from what AWS's price list says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.execution.prices import HourlyPrices
from tests.fakes.fake_sagemaker import Body, answering, connected
from tests.unit.cli.conftest import Polysync


def entry(
    name: str, component: str, price: str, *, unit: str = "Hrs", currency: str = "USD"
) -> str:
    """Return an entry of the price list, which is a text."""
    dimension = {"unit": unit, "pricePerUnit": {currency: price}, "description": "x"}
    attributes = {"instanceName": name, "component": component, "servicecode": "x"}
    terms = {"OnDemand": {"ABC.JRT": {"priceDimensions": {"ABC.JRT.6YS": dimension}}}}
    return json.dumps(
        {"product": {"attributes": attributes}, "terms": terms, "version": "2026"}
    )


PAGES = [
    [
        entry("ml.m5.large", "Training", "0.1150000000"),
        entry("ml.m5.large", "Processing", "0.1200000000"),
        entry("ml.m5.large", "Hosting", "9.0"),
        entry("ml.only.hosting", "Hosting", "3.0"),
        "no JSON",
        json.dumps({"product": {}}),
        entry("ml.m5.large", "Training", "Infinity"),
        entry("ml.m5.large", "Training", "-1"),
        entry("ml.m5.large", "Training", "9").replace('{"USD": "9"}', "{}"),
    ],
    [
        entry("ml.a", "Training", "1", unit="GB"),
        entry("canvas", "Training", "1"),
        entry("ml.m5.large", "Batch Transform", "0.1"),
    ],
]


class PriceList:
    """Answers GetProducts with pages, by the region that is asked for."""

    def __init__(self, pages: dict[str, list[list[str]]]) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def respond(self, operation: str, request: dict[str, Any]) -> Body:
        """Return a page."""
        assert operation == "GetProducts"
        assert request["ServiceCode"] == "AmazonSageMaker"
        self.asked.append(request)
        (region,) = [each["Value"] for each in request["Filters"]]
        number = int(request.get("NextToken", 0))
        pages = self.pages.get(region, [[]])
        more = {"NextToken": str(number + 1)} if number + 1 < len(pages) else {}
        return Body(
            json.dumps(
                {"FormatVersion": "aws_v1", "PriceList": pages[number], **more}
            ).encode()
        )


def run(polysync: Polysync, prices: PriceList, *regions: str) -> Any:
    """Run the command against a price list."""
    with connected(answering(prices.respond)):
        return polysync("prices", *regions)


def test_table_has_the_highest_price_of_each_instance(polysync: Polysync) -> None:
    """
    The highest price of what pipelines do with an instance. What is no instance, or has
    no hours, is left out.
    """
    other = [[entry("ml.m5.large", "Training", "0.2")]]

    result = run(
        polysync,
        PriceList({"eu-west-1": PAGES, "us-east-1": other}),
        "eu-west-1",
        "us-east-1",
    )

    assert result.code == 0, result.err
    table = HourlyPrices.parse(result.out)
    assert table.currency == "USD"
    assert table.prices == {
        "eu-west-1": {"ml.m5.large": 0.12, "ml.only.hosting": 3.0},
        "us-east-1": {"ml.m5.large": 0.2},
    }


IN_DOLLARS = [[entry("ml.a", "Training", "1")]]
IN_YUAN = [[entry("ml.a", "Training", "7", currency="CNY")]]
TWO_CURRENCIES = {"us-east-1": IN_DOLLARS, "cn-north-1": IN_YUAN}
WRONG_NAME = {"us-east-1": [[entry("ml.<b>", "Training", "1")]]}
ENDLESS: dict[str, Any] = {"us-east-1": [[]] * 201}


@pytest.mark.parametrize(
    ("pages", "regions", "problem"),
    [
        ({}, "eu-west-9", "no instances of SageMaker in eu-west-9: check the name"),
        ({}, "eu-wets-1", "SageMaker in eu-wets-1: did you mean eu-west-1?"),
        (
            {},
            "mars-north-1",
            "'mars-north-1' is no AWS region: give names such as eu-central-1.",
        ),
        (
            {},
            "us-gov-west-1",
            "The partition aws-us-gov of us-gov-west-1 has no price list: "
            "write the prices yourself.",
        ),
        (
            TWO_CURRENCIES,
            "us-east-1 cn-north-1",
            "the regions have prices in CNY and USD: make a table for each",
        ),
        (WRONG_NAME, "us-east-1", "values than expected: prices.us-east-1.ml.<b>"),
        (ENDLESS, "us-east-1", "has more than 200 pages"),
    ],
)
def test_error_says_why_no_table_can_be_made(
    pages: dict[str, list[list[str]]], regions: str, problem: str, polysync: Polysync
) -> None:
    """The error says why; nothing is written."""
    result = run(polysync, PriceList(pages), *regions.split())

    assert problem in result.refusal


def test_missing_permission_is_named(polysync: Polysync) -> None:
    """The error names it."""

    def refuse(*_: Any) -> Body:
        return Body(b'{"__type": "AccessDeniedException", "message": "no"}', status=400)

    with connected(answering(refuse)):
        result = polysync("prices", "eu-west-1")

    assert result.code == 2
    assert "pricing:GetProducts" in result.error
