"""What an execution costs, by the table of hourly prices that a deployment may have."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import read_json

MAX_BYTES: Final = 2 * 1024 * 1024
SPENDING_KEY: Final = "spending"
MAX_AMOUNT: Final = 1_000_000_000
# In place of a limit that the DAG author has not given. One that was given, and whose
# template renders to None or to an empty text, is an error.
NOT_GIVEN: Final = object()
# What the message of a task says that has spent what it may.
NEXT_STEP: Final = (
    "Next: make the pipeline cheaper or raise max_cost, then clear the task.\n"
    "  After a clear, the cost counts from 0."
)

InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")]
Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Cost(models.FrozenModel):
    """
    The member ``cost`` of the XCom ``run``: the billable time multiplied by the prices.

    :param amount: in ``currency``.
    :param prices_date: the date of the prices, in UTC.
    :param note: what the amount lacks, as sentences; None if nothing that is known.
    """

    amount: float
    currency: str
    prices_date: datetime.date
    note: str | None = None

    @property
    def text(self) -> str:
        """The cost in one line."""
        text = f"{self.amount:,.2f} {self.currency}, by prices of {self.prices_date}."
        return f"{text} {self.note or ''}".rstrip()


class CostLimit(models.StrictModel):
    """
    What a task instance may cost from one clear to the next, and how that is estimated.

    :param max_cost: in ``currency``.
    :param prices: of an instance for an hour, by its type, in the region.
    :param spent: what attempts that have ended cost.
    :param since: when the last of these attempts had ended; None if no attempt has
        ended. A step that ended before is in ``spent``.
    """

    max_cost: Amount
    currency: str
    prices_date: datetime.date
    prices: Mapping[InstanceType, Price]
    spent: Amount = 0.0
    since: models.UtcTime | None = None

    @classmethod
    def parse(cls, content: str) -> CostLimit:
        """
        Return the limit that a JSON text contains.

        :raises ValueError: it contains none.
        """
        return cls.model_validate(read_json(content, "it", max_bytes=MAX_BYTES))

    def amount_of(self, billed: Mapping[str, float]) -> float:
        """Return what instances cost, by the seconds of each type."""
        return sum(
            seconds / 3600 * self.prices.get(instance_type, 0)
            for instance_type, seconds in billed.items()
        )


class Spending(models.FrozenModel):
    """
    What a task with ``max_cost`` has spent since the last clear: the XCom ``spending``,
    and a member of the XCom ``run`` once the wait has ended. An estimate.

    :param amount: what was spent, in ``currency``.
    :param spent_before: what attempts that had ended before cost; part of ``amount``.
    :param per_hour: what the steps that run now, and warm pools that are kept, cost in
        the next hour.
    :param dearest_step: the step of this attempt that costs most; None if none costs
        anything.
    :param dearest_amount: what that step has cost.
    :param unpriced: the types of instances that have no price.
    :param note: what else is not counted, as a sentence; None if nothing.
    """

    at: models.UtcTime
    amount: Amount
    max_cost: Amount
    currency: str
    prices_date: datetime.date
    spent_before: Amount = 0.0
    per_hour: Amount = 0.0
    dearest_step: str | None = None
    dearest_amount: Amount = 0.0
    unpriced: tuple[str, ...] = ()
    note: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self.amount >= self.max_cost

    @property
    def text(self) -> str:
        """What was spent, as sentences."""
        text = (
            f"An estimated {self.amount:,.2f} {self.currency} are spent, of max_cost ="
            f" {self.max_cost:,.2f}, as of {self.at:%H:%M:%S} UTC, by prices of"
            f" {self.prices_date}."
        )
        if self.spent_before:
            text += f" {self.spent_before:,.2f} of it were spent by earlier attempts."
        if self.dearest_step:
            text += f" Dearest step: {self.dearest_step} ({self.dearest_amount:,.2f})."
        if self.unpriced:
            text += f" Without a price: {', '.join(self.unpriced)}."
        return f"{text} {self.note or ''}".rstrip()


class CostAndUsage(models.FrozenModel):
    """
    What an execution has used and cost: members of the XCom ``run``, added up once, by
    whoever sees its end. An estimate, and the same in tab, page, XComs and commands.

    :param added_up_at: when it was added up; None if no process has listed the steps
        after the end.
    :param billable_seconds: the seconds of all instances; None if no job was described.
    :param billable_seconds_by_instance_type: the seconds by the type of instance.
    :param cost: what the execution has cost; None without prices.
    :param spending: what the task has spent; None without ``max_cost``.
    """

    added_up_at: models.UtcTime | None = None
    billable_seconds: float | None = None
    billable_seconds_by_instance_type: Mapping[str, float] = {}
    cost: Cost | None = None
    spending: Spending | None = None

    @classmethod
    def of(
        cls, billed: Mapping[str, float], cost: Cost | None, now: datetime.datetime
    ) -> CostAndUsage:
        """
        Return what jobs have used and cost.

        :param billed: the seconds by the type of instance.
        """
        return cls(
            added_up_at=now,
            billable_seconds=round(sum(billed.values()), 1),
            billable_seconds_by_instance_type=billed,
            cost=cost,
        )


class HourlyPrices(models.StrictModel):
    """
    Prices of an instance for an hour.

    :param currency: its code, as ISO 4217 has it.
    :param date: the date of the prices.
    :param prices: by region and type of instance.
    """

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    date: datetime.date
    prices: dict[models.RegionName, dict[InstanceType, Price]]

    @classmethod
    def parse(cls, content: str | bytes) -> HourlyPrices:
        """
        Return the table that a JSON text contains.

        :param content: at most ``MAX_BYTES``.
        :raises ValueError: the text is no such table; the error says why.
        """
        values = read_json(content, "it", max_bytes=MAX_BYTES)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(texts.describe_validation_error(error)) from None

    @classmethod
    def of_limit(cls, limit: CostLimit, region: str) -> HourlyPrices:
        """Return the prices by which a limit is checked, for one region."""
        return cls(
            currency=limit.currency,
            date=limit.prices_date,
            prices={region: dict(limit.prices)},
        )

    def cost_of(
        self, billed: Mapping[str, float], region: str, uncounted: str | None = None
    ) -> tuple[Cost | None, str | None]:
        """
        Return the cost of an execution, and a sentence about the prices that are
        missing.

        :param billed: the seconds for which AWS bills, by the type of instance.
        :param region: the AWS region of the execution.
        :param uncounted: a sentence about what ``billed`` lacks; None if nothing.
        :return: the cost, None if the table has none of the prices; and the sentence,
            None if the table has them all.
        """
        prices = self.prices.get(region, {})
        unpriced = sorted(billed.keys() - prices.keys())
        note = None
        if unpriced:
            note = (
                f"The cost lacks {', '.join(unpriced)}: hourly_prices has no price in"
                f" {region}."
            )
        if billed and len(unpriced) == len(billed):
            return None, note
        amount = sum(
            seconds / 3600 * prices.get(instance_type, 0)
            for instance_type, seconds in billed.items()
        )
        cost = Cost(
            amount=round(amount, 4),
            currency=self.currency,
            prices_date=self.date,
            note=" ".join(filter(None, [note, uncounted])) or None,
        )
        return cost, note


def limit_of(
    max_cost: object, option: str, table: HourlyPrices | None, region: str
) -> CostLimit | None:
    """
    Return the limit of a task: the lower one of its own and that of the deployment;
    None without both.

    :param max_cost: the argument of the operator, as it was rendered; ``NOT_GIVEN`` if
        the DAG author has given none.
    :param option: the config option ``max_cost``; empty for no limit.
    :param table: the prices of the deployment; None if it has none.
    :raises ParametersError: a limit is not valid, or there are no prices.
    """
    limits = []
    if max_cost is not NOT_GIVEN:
        limits.append(_amount_of("max_cost", max_cost))
    if option:
        limits.append(_amount_of("[polysync_sagemaker] max_cost", option))
    if not limits:
        return None
    max_amount = min(limits)
    if table is None or region not in table.prices:
        raise ParametersError(
            f"max_cost = {max_amount:g} needs prices, but [polysync_sagemaker]"
            f" hourly_prices has none in {region}. The command polysync prices {region}"
            " writes them."
        )
    return CostLimit(
        max_cost=max_amount,
        currency=table.currency,
        prices_date=table.date,
        prices=table.prices[region],
    )


def _amount_of(name: str, value: object) -> float:
    if value is None or value == "":
        raise ParametersError(
            f"{name} = {value!r} is no limit, although one was given: its template has"
            " rendered to nothing. Give a number above 0, in the currency of"
            f" hourly_prices, or leave {name} out for no limit."
        )
    amount = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            amount = float(value)
    if not 0 < amount <= MAX_AMOUNT:
        raise texts.invalid_argument(
            name, value, "give a number above 0, in the currency of hourly_prices"
        )
    return amount
