"""
The error classes: each can be pickled, as Airflow's executors and process pools need.
"""

from __future__ import annotations

import pickle
from inspect import signature
from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.exceptions import PolysyncError

# Other values than the defaults.
ARGUMENTS = {
    "error_code": "c",
    "execution_arn": "a",
    "model_package_arn": "m",
    "operation": "o",
    "permanent": False,
    "status": "Executing",
    "transient": True,
}


def subclasses(base: Any) -> set[Any]:
    """Return a class and all classes that are derived from it."""
    return {base}.union(*(subclasses(each) for each in base.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(subclasses(PolysyncError), key=str))
def test_errors_can_be_pickled(kind: Any) -> None:
    """A copy has the type, the message and all attributes of the original."""
    names = signature(kind).parameters
    error = kind("m", **{name: ARGUMENTS[name] for name in ARGUMENTS if name in names})

    copy = pickle.loads(pickle.dumps(error))  # it was pickled here

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(("alias", "code"), exceptions.ALIASES.items())
def test_code_in_another_spelling_counts_as_the_same(alias: str, code: str) -> None:
    """
    An error is compared by SageMaker's spelling of its code, and shows the one that AWS
    has sent.
    """
    error = exceptions.SageMakerApiError(
        "m", error_code=alias, operation="o", permanent=False
    )

    assert exceptions.has_code(error, code)
    assert error.error_code == alias
    assert not exceptions.has_code(error, "ConflictException")
    assert not exceptions.has_code(ValueError(alias), code)
