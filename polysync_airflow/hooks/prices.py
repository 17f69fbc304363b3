"""The prices and the limit that a deployment has configured."""

from __future__ import annotations

from pathlib import Path

from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import prices
from polysync_airflow.get_provider_info import CONFIG_SECTION, HOURLY_PRICES, MAX_COST


def read_prices() -> prices.HourlyPrices | None:
    """
    Return the hourly prices of this deployment; None if it has none.

    :raises OSError: the file cannot be read.
    :raises ValueError: the table is not valid.
    """
    setting = conf.get(*HOURLY_PRICES, fallback="").strip()
    if not setting:
        return None
    if setting.startswith("{"):
        return prices.HourlyPrices.parse(setting)
    with Path(setting).open("rb") as file:
        return prices.HourlyPrices.parse(file.read(prices.MAX_BYTES + 1))


def has_limit(max_cost: object) -> bool:
    """
    Return whether a task may spend only so much.

    :param max_cost: the argument of the operator, as it was rendered; ``NOT_GIVEN`` if
        the DAG author has given none.
    """
    is_given = max_cost is not prices.NOT_GIVEN
    return is_given or bool(conf.get(*MAX_COST, fallback="").strip())


def read_limit(max_cost: object, region: str) -> prices.CostLimit | None:
    """
    Return what a task may spend; None if it has no limit.

    :param max_cost: the argument of the operator, as it was rendered; ``NOT_GIVEN`` if
        the DAG author has given none.
    :param region: the region of the execution.
    :raises ParametersError: a limit is not valid, or the prices are missing.
    """
    if not has_limit(max_cost):
        return None
    try:
        table = read_prices()
    except (OSError, ValueError) as error:
        raise ParametersError(
            f"max_cost needs prices: [{CONFIG_SECTION}] hourly_prices: {error}."
        ) from None
    option = conf.get(*MAX_COST, fallback="").strip()
    return prices.limit_of(max_cost, option, table, region)
