"""
Markdown tables of metrics: one column per provider, and the ratio in the last column.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from tests.benchmarks.results_cache import Metrics

PACKAGES: Final = (
    "polysync-airflow",
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "botocore",
    "aiobotocore",
)


def machine() -> str:
    """
    Return the versions of the measured packages, the number of CPUs, and the load
    average.
    """
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    load = os.getloadavg()[0]
    return f"{', '.join(versions)}; {os.cpu_count()} CPUs, load {load:.1f} at {time.strftime('%Y-%m-%d %H:%M')}."


def compare(columns: Mapping[str, Metrics]) -> str:
    """
    Return a table with one line per metric and one column per provider.

    With several providers, a further column shows the last provider's value divided by
    the first provider's.

    :param columns: metrics by provider.
    """
    metrics = list(columns.values())
    names = dict.fromkeys(name for each in metrics for name in each.values)
    head = ["", *columns, *(["ratio"] if len(columns) > 1 else [])]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in names:
        cells = [as_text(each.values.get(name)) for each in metrics]
        if len(columns) > 1:
            cells.append(
                _ratio(metrics[0].values.get(name), metrics[-1].values.get(name))
            )
        rows.append([name, *cells])
    notes = [f"\n{name}: {each.note}" for name, each in columns.items() if each.note]
    return "\n".join([*aligned(rows), *notes])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """
    Return the lines of a Markdown table in which every column is as wide as its widest
    cell.

    :param rows: the cells; the first row is the head, the second row is the delimiter
        row (``---`` or ``---:``).
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_line(row, rows[1], widths) for row in rows]


def _line(row: Sequence[str], delimiters: Sequence[str], widths: Sequence[int]) -> str:
    cells = []
    for cell, delimiter, width in zip(row, delimiters, widths, strict=True):
        right = delimiter.endswith(":")
        if cell is delimiter and cell.startswith("---"):
            cells.append(f"{'-' * (width - right)}{':' if right else ''}")
        else:
            cells.append(cell.rjust(width) if right else cell.ljust(width))
    return f"| {' | '.join(cells)} |"


def as_text(value: float | None) -> str:
    """
    Return a value as text, with about three significant digits.

    :param value: the value; None if there is none.
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return (
        f"{value:.1f}"
        if abs(value) >= 100
        else f"{value:.2f}"
        if abs(value) >= 0.1
        else f"{value:.3f}"
    )


def _ratio(ours: float | None, other: float | None) -> str:
    if not ours or other is None:
        return "-"
    return f"{other / ours:,.2f}" if other < 10 * ours else f"{other / ours:,.0f}"
