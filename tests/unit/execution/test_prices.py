"""The table of hourly prices, and what an execution costs by it."""

from __future__ import annotations

import datetime
import json

import pytest

from polysync_airflow.execution.prices import MAX_BYTES, Cost, HourlyPrices

REGION = "eu-central-1"
TABLE = {
    "currency": "EUR",
    "date": "2026-11-01",
    "prices": {
        REGION: {"ml.m5.large": 0.12, "ml.free": 0},
        "us-east-1": {"ml.p3.2xlarge": 3.825},
    },
}


@pytest.mark.parametrize(
    ("billed", "amount", "unknown"),
    [
        ({"ml.m5.large": 5400.0}, 0.18, None),
        ({"ml.m5.large": 5400.0, "ml.free": 3600.0}, 0.18, None),
        (
            {"ml.m5.large": 5400.0, "ml.p3.2xlarge": 9.0, "ml.a": 1.0},
            0.18,
            "ml.a, ml.p3.2xlarge",
        ),
        ({"ml.p3.2xlarge": 9.0}, None, "ml.p3.2xlarge"),
        ({"ml.m5.large": 1.0}, 0.0, None),
        ({"ml.m5.large": 2.0}, 0.0001, None),
        ({}, 0.0, None),
    ],
)
def test_cost_has_the_prices_of_the_region(
    billed: dict[str, float], amount: float | None, unknown: str | None
) -> None:
    """The prices are those of the region. What has none is named."""
    cost, note = HourlyPrices.parse(json.dumps(TABLE)).cost_of(billed, REGION)

    missing = (
        unknown and f"The cost lacks {unknown}: hourly_prices has no price in {REGION}."
    )
    expected = None
    if amount is not None:
        date = datetime.date(2026, 11, 1)
        expected = Cost(amount=amount, currency="EUR", prices_date=date, note=missing)
    assert cost == expected
    assert note == missing


def test_table_that_is_not_valid_is_refused_with_its_field() -> None:
    """The error names the field."""
    for change, field in (
        ({"currency": "Euro"}, "currency"),
        ({"date": "November"}, "date"),
        ({"prices": {"Frankfurt": {}}}, "prices.Frankfurt"),
        ({"prices": {REGION: {"ml.m5.large": -1}}}, "prices.eu-central-1.ml.m5.large"),
        ({"prices": {REGION: {"<b>": 1}}}, "prices.eu-central-1.<b>"),
        ({"hourly": {}}, "hourly"),
    ):
        with pytest.raises(ValueError, match=field):
            HourlyPrices.parse(json.dumps({**TABLE, **change}))


def test_text_that_is_no_table_is_refused() -> None:
    """Neither JSON of another type, nor a text without end."""
    with pytest.raises(ValueError, match=r"^it is not JSON"):
        HourlyPrices.parse("{")
    with pytest.raises(ValueError, match=r"^it has more than"):
        HourlyPrices.parse(b" " * (MAX_BYTES + 1))
