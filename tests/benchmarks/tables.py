"""Owns how figures are shown: Markdown tables with a column for each provider, the ratio last."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from tests.benchmarks.notebook import Figures

PACKAGES: Final = (
    "polysync-airflow",
    "apache-airflow",
    "apache-airflow-providers-amazon",
    "botocore",
    "aiobotocore",
)


def machine() -> str:
    """Tell what is measured, on what, and how busy that is with other things."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    load = os.getloadavg()[0]
    return f"{', '.join(found)}; {os.cpu_count()} CPUs, load {load:.1f} at {time.strftime('%Y-%m-%d %H:%M')}."


def compare(columns: Mapping[str, Figures]) -> str:
    """
    Return a table of the same figures of several providers; the last column tells the last in terms of the first.

    :param columns: figures by provider.
    """
    shown = list(columns.values())
    names = dict.fromkeys(name for figures in columns.values() for name in figures.values)
    head = ["", *columns, *(["ratio"] if len(columns) > 1 else [])]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name in names:
        cells = [as_text(figures.values.get(name)) for figures in columns.values()]
        if len(columns) > 1:
            cells.append(_ratio(shown[0].values.get(name), shown[-1].values.get(name)))
        rows.append([name, *cells])
    notes = [f"\n{name}: {figures.note}" for name, figures in columns.items() if figures.note]
    return "\n".join([*aligned(rows), *notes])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """
    Return the lines of a Markdown table whose columns are as wide as their widest cells.

    :param rows: the cells, those of the head and of the rule below it first.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [_line(row, rows[1], widths) for row in rows]


def _line(row: Sequence[str], rule: Sequence[str], widths: Sequence[int]) -> str:
    cells = []
    for cell, kind, width in zip(row, rule, widths, strict=True):
        if cell is kind and cell.startswith("---"):
            cells.append(f"{'-' * (width - kind.endswith(':'))}{':' if kind.endswith(':') else ''}")
        else:
            cells.append(cell.rjust(width) if kind.endswith(":") else cell.ljust(width))
    return f"| {' | '.join(cells)} |"


def as_text(value: float | None) -> str:
    """
    Return a figure with as many digits as matter.

    :param value: None if there is none.
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def _ratio(ours: float | None, theirs: float | None) -> str:
    if not ours or theirs is None:
        return "-"
    return f"{theirs / ours:,.2f}" if theirs < 10 * ours else f"{theirs / ours:,.0f}"
