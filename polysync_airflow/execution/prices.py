"""What an execution costs, by the table of hourly prices that a deployment may have."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, StringConstraints, ValidationError

from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import read_json

MAX_BYTES: Final = 2 * 1024 * 1024

InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")]
Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


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
