"""
The error classes: each can be pickled, as Airflow's executors and process pools need.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.exceptions import PolysyncError

ERRORS: list[PolysyncError] = [
    exceptions.PolysyncError("m", permanent=False, transient=True),
    exceptions.CredentialsError("m", permanent=False),
    exceptions.ParametersError("m"),
    exceptions.CatalogueError("m"),
    exceptions.CatalogueDriftError("m"),
    exceptions.TriggerEventError("m"),
    exceptions.StoredRecordError("m"),
    exceptions.CallbackStepError("m", permanent=True),
    exceptions.ModelApprovalError("m", model_package_arn=None, permanent=False),
    exceptions.ModelRejectedError("m", model_package_arn="a"),
    exceptions.SageMakerApiError(
        "m", error_code="c", operation="o", permanent=False, transient=True
    ),
    exceptions.PipelineExecutionError(
        "m", execution_arn="a", status=None, permanent=True
    ),
    exceptions.PipelineExecutionFailedError("m", execution_arn="a", status="Failed"),
    exceptions.PipelineExecutionCancelledError(
        "m", execution_arn="a", status="Stopped"
    ),
    exceptions.PipelineExecutionCancelledFailError(
        "m", execution_arn="a", status="Stopped"
    ),
    exceptions.PipelineExecutionTimeoutError(
        "m", execution_arn="a", status="Executing"
    ),
    exceptions.PipelineExecutionTooExpensiveError(
        "m", execution_arn="a", status="Executing", permanent=True
    ),
    exceptions.PipelineExecutionNotFoundError(
        "m", execution_arn=None, status=None, permanent=True
    ),
]


def subclasses(base: Any) -> set[Any]:
    """Return a class and all classes that are derived from it."""
    return {base}.union(*(subclasses(each) for each in base.__subclasses__()))


def test_every_class_is_in_the_list() -> None:
    """A new class must be tested too."""
    assert {type(error) for error in ERRORS} == {
        each
        for each in subclasses(PolysyncError)
        if each.__module__ == exceptions.__name__
    }


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_pickled(error: PolysyncError) -> None:
    """A copy has the type, the message and all attributes of the original."""
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
