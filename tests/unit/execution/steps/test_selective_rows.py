"""The rows of the XCom ``steps`` of a selective execution."""

from __future__ import annotations

from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.steps.descriptions import order_of, order_text, rows_of
from tests.unit.execution.steps.test_rows import EXECUTION, step


def test_row_says_from_which_execution_its_result_is() -> None:
    """
    A row says from which execution its result is; steps that were not selected stay
    marked in later lists.
    """
    source = EXECUTION[:-3] + "xyz"
    order = [
        DeclaredStep(name, None, not_selected=name != "Train")
        for name in ("Prepare", "Train", "Deploy")
    ]
    result = {"SourcePipelineExecutionArn": source}
    damaged = {"SourcePipelineExecutionArn": "javascript:x"}
    longer = {"SourcePipelineExecutionArn": f"{source}\n"}
    steps = [
        step("Prepare", SelectiveExecutionResult=result),
        step("Train"),
        step("Cached", CacheHitResult=result),
        step("Damaged", SelectiveExecutionResult=damaged),
        step("Longer", SelectiveExecutionResult=longer),
    ]

    before = rows_of((), order, EXECUTION)
    rows = {row.name: row for row in rows_of(steps, before, EXECUTION)}

    assert [row.not_selected for row in before] == [True, False, True]
    # A trigger has them as a text.
    assert order_of(order_text(before)) == order
    assert {name: row.reused_from for name, row in rows.items() if row.reused_from} == {
        "Prepare": source,
        "Cached": source,
    }
    assert [name for name, row in rows.items() if row.not_selected] == ["Deploy"]
    assert [each.is_reused for each in steps] == [True, False, True, True, True]
