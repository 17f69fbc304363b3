"""The table that commands write."""

from __future__ import annotations

from polysync_airflow.cli.output import MIN_WIDTH, WIDTH_OF_A_FILE, table


def test_cut_columns_keep_some_characters() -> None:
    """Also if the line gets longer, because another column is too long."""
    rows = [("EXECUTION", "TASK"), ("e" * WIDTH_OF_A_FILE, "t" * 50)]

    _, line = table(rows, cut=("TASK",))

    execution, task = line.split()
    assert execution == "e" * WIDTH_OF_A_FILE
    assert len(task) == MIN_WIDTH
