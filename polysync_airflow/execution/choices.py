"""
What a DAG author chose for a task: values that are the same in each of its tries, validated and frozen.

Each core declares the choices that it uses, as a class of its own. An operator has one class that inherits
from those of its cores, and passes its value on whole. Defaults are in the operator's signature only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.clock import as_seconds
from polysync_airflow.execution.texts import shorten

Flag = Annotated[bool, Field(strict=True, description="give True or False")]

# A number of seconds, which a DAG author may also give as a timedelta.
Seconds = Annotated[float, BeforeValidator(as_seconds)]


def seconds(minimum: float, maximum: float) -> Any:
    """Return the field of ``Seconds`` from ``minimum`` to ``maximum``."""
    cure = f"give a number of seconds from {minimum:g} to {maximum:,.0f}, or a timedelta"
    return Field(ge=minimum, le=maximum, strict=True, description=cure)


class Choices(BaseModel):
    """Base class. The ``description`` of a field says which values are valid, unless it is a ``Literal``."""

    # defer_build: Airflow parses a DAG file every 30 seconds, and most of them have no operator of these.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """
        Return the choices among the arguments of an operator.

        :param arguments: the arguments by name; others are ignored.
        :raises ParametersError: an argument is not valid. The error names it, its value, and what is valid.
        """
        try:
            return cls.model_validate({name: arguments[name] for name in cls.model_fields})
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            field = cls.model_fields[name]
            cure = field.description or f"give one of {', '.join(get_args(field.annotation))}"
            raise ParametersError(f"{name} = {shorten(arguments[name])} is not valid: {cure}.") from None
