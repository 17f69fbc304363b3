"""
The command ``polysync prices``: it writes what instances cost for an hour, as AWS's
price list has it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Final

from pydantic import AliasPath, BaseModel, Field, ValidationError

from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.aws import regions, sessions
from polysync_airflow.cli import output
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import clock, json_input
from polysync_airflow.execution.prices import HourlyPrices, Price
from polysync_airflow.hooks import PolysyncSageMakerHook

_MAX_PAGES: Final = 200
# What pipelines do with instances. Endpoints, notebooks and the like may have other
# prices.
_USES: Final = ("training", "processing", "batch")
_HOURS: Final = ("hrs", "hour", "hours")


def main(args: argparse.Namespace) -> int:
    """
    Write the table for ``[polysync_sagemaker] hourly_prices``, and return the exit
    code.
    """
    prices: dict[str, dict[str, float]] = {}
    currencies: set[str] = set()
    with output.airflow_in_use(args.conn_id, "Products read:") as on_item:
        for region in args.regions:
            prices[region], currencies_here = _prices_in(args.conn_id, region, on_item)
            currencies |= currencies_here
    if len(currencies) > 1:
        args.parser.error(
            f"the regions have prices in {' and '.join(sorted(currencies))}: make a"
            " table for each"
        )
    content = {
        "currency": currencies.pop(),
        "date": clock.now().date().isoformat(),
        "prices": prices,
    }
    try:
        table = HourlyPrices.parse(json.dumps(content))
    except ValueError as error:
        raise ParametersError(
            f"AWS's price list has other values than expected: {error}."
        ) from None
    output.write_json(table.model_dump(mode="json"))
    return output.OK


class _Dimension(BaseModel):
    unit: str
    pricePerUnit: Annotated[dict[str, Price], Field(min_length=1)]


class _Term(BaseModel):
    priceDimensions: dict[str, _Dimension]


class _Product(BaseModel):
    """An entry of the price list."""

    attributes: dict[str, str] = Field(
        validation_alias=AliasPath("product", "attributes")
    )
    terms: dict[str, dict[str, _Term]]


def _prices_in(
    connection: str, region: str, on_item: Callable[[object], None]
) -> tuple[dict[str, float], set[str]]:
    """Return the highest price of each type of instance, and the currencies."""
    hook = PolysyncSageMakerHook(
        connection, sessions.price_list_region(region), config=REPORT_CONFIG
    )
    pipeline_prices: dict[str, float] = {}
    other_prices: dict[str, float] = {}
    currencies: set[str] = set()
    for attributes, dimension in _dimensions(hook, region):
        on_item("")
        name = attributes.get("instanceName", "")
        if name.startswith("ml.") and dimension.unit.lower() in _HOURS:
            prices = other_prices
            if attributes.get("component", "").lower().startswith(_USES):
                prices = pipeline_prices
            currencies |= dimension.pricePerUnit.keys()
            prices[name] = max(prices.get(name, 0.0), *dimension.pricePerUnit.values())
    if not currencies:
        cure = "check the name."
        meant = regions.meant_region(region)
        if meant:
            cure = f"did you mean {meant}?"
        raise ParametersError(
            f"AWS's price list has no instances of SageMaker in {region}: {cure}"
        )
    return dict(sorted({**other_prices, **pipeline_prices}.items())), currencies


def _dimensions(
    hook: PolysyncSageMakerHook, region: str
) -> Iterator[tuple[dict[str, str], _Dimension]]:
    request = {
        "Filters": [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}],
        "MaxResults": 100,
    }
    for _ in range(_MAX_PAGES):
        page = hook.call_pricing(ServiceCode="AmazonSageMaker", **request)
        for entry in page.get("PriceList", ()):
            # What has another form is no instance.
            with suppress(json_input.UnreadableJsonError, ValidationError):
                product = _Product.model_validate(
                    json_input.read_json(entry, "the product")
                )
                for term in product.terms.get("OnDemand", {}).values():
                    for dimension in term.priceDimensions.values():
                        yield product.attributes, dimension
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]
    raise ParametersError(
        f"AWS's price list of {region} has more than {_MAX_PAGES} pages."
    )
