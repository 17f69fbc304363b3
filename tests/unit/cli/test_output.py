"""The table that commands write."""

from __future__ import annotations

from polysync_airflow.cli.output import MIN_WIDTH, WIDTH_OF_A_FILE, table


def test_widest_columns_are_cut_until_a_line_fits() -> None:
    """Other columns are whole, and what is cut has its beginning and its end."""
    rows = [("EXECUTION", "TASK", "RUN"), ("e" * 90, "t" * 50, "a" * 70 + "z")]

    _, line = table(rows, cut=("TASK", "RUN"))

    execution, task, run = line.split()
    assert len(line) == WIDTH_OF_A_FILE
    assert execution == "e" * 90
    assert len(task) == len(run) == 33
    assert run[0] == "a"
    assert run[-1] == "z"


def test_cut_columns_keep_some_characters() -> None:
    """Also if the line gets longer, because another column is too long."""
    rows = [("EXECUTION", "TASK"), ("e" * WIDTH_OF_A_FILE, "t" * 50)]

    _, line = table(rows, cut=("TASK",))

    execution, task = line.split()
    assert execution == "e" * WIDTH_OF_A_FILE
    assert len(task) == MIN_WIDTH
