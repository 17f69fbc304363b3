"""What of a record is stored."""

from __future__ import annotations

import pytest

from polysync_airflow.execution.lifecycle.instructions import ClearChoice, Incarnation
from tests.unit.execution.lifecycle.builders import NOW, REQUEST, stored

OWN = ClearChoice(on_clear="resume", epoch=2)
OF_NEXT_CLEAR = ClearChoice(on_clear="new")
OTHER = Incarnation(dag_run_started_at=NOW)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"clear_choice": OF_NEXT_CLEAR}, OF_NEXT_CLEAR),
        ({"clear_choice": None}, None),
        # Another try of the same clear has resumed the execution, or was about to.
        ({"epoch": 3, "clear_choice": None}, OWN),
        ({"epoch": 3, "clear_choice": ClearChoice(on_clear="new", epoch=3)}, OWN),
        ({"epoch": 3, "clear_choice": OF_NEXT_CLEAR}, OF_NEXT_CLEAR),
        ({"clear_choice": OF_NEXT_CLEAR, "incarnation": OTHER}, OWN),
    ],
    ids=["made", "withdrawn", "used", "other clear", "after a try", "other DAG run"],
)
def test_choice_is_that_of_the_user(
    changes: dict[str, object], expected: ClearChoice | None
) -> None:
    """
    A user may choose, or withdraw the choice, after this process has read the record.
    """
    record = stored(clear_choice=OWN)

    assert record.with_choice_of(stored(**changes)) == stored(clear_choice=expected)


def test_choice_is_kept_without_a_stored_record() -> None:
    """Somebody has deleted it."""
    record = stored(clear_choice=OWN)

    assert record.with_choice_of(None) is record


def test_values_of_parameters_are_stored_until_the_arn_is_known() -> None:
    """
    Whoever may read Variables sees them; a request that is sent again must be the same.
    """
    with_values = REQUEST.model_copy(update={"pipeline_parameters": {"Password": "1"}})

    assert stored(request=with_values).without_values() == stored()
    sent = stored(request=with_values, execution_arn=None)
    assert sent.without_values() == sent
