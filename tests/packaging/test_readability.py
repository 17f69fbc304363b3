"""
One statement has one thought, and a function is read without scrolling. Ruff checks the
length of lines. ``readability.py`` has the averages, which fail nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.readability import (
    PACKAGES,
    Function,
    lines_of_body,
    modules_of,
    nodes_of,
    report,
)

MAX_FUNCTION_LINES: Final = 60


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_statements_assign_one_value(package: Path) -> None:
    """``a, b = x, y`` is two statements."""
    assigning = [
        f"{name}: {ast.unparse(node)}"
        for name, node in nodes_of(modules_of(package))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    ]

    assert assigning == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_conditional_expressions_are_not_nested(package: Path) -> None:
    """A choice among three is a chain of ``if``."""
    nested = [
        f"{name}: {ast.unparse(outer)}"
        for name, outer in nodes_of(modules_of(package))
        if isinstance(outer, ast.IfExp)
        for inner in ast.walk(outer)
        if inner is not outer and isinstance(inner, ast.IfExp)
    ]

    assert nested == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_conditions_assign_nothing_beside_what_they_ask(package: Path) -> None:
    """A condition either asks, or is nothing but an assignment."""
    assigning = [
        f"{name}: {ast.unparse(node.test)}"
        for name, node in nodes_of(modules_of(package))
        if isinstance(node, ast.If | ast.While)
        and not isinstance(node.test, ast.NamedExpr)
        and any(isinstance(part, ast.NamedExpr) for part in ast.walk(node.test))
    ]

    assert assigning == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_functions_are_read_without_scrolling(package: Path) -> None:
    """A function has at most 60 lines below its docstring."""
    long = [
        f"{name}: {node.name}"
        for name, node in nodes_of(modules_of(package))
        if isinstance(node, Function) and lines_of_body(node) > MAX_FUNCTION_LINES
    ]

    assert long == []


def test_report_has_the_figures_of_a_package(tmp_path: Path) -> None:
    """Comments and docstrings are no code."""
    text = '"""Doc."""\n\n# Why.\nx = 1 if y else 2\n\n\ndef f():\n    """Doc."""\n'
    (tmp_path / "module.py").write_text(f"{text}    return 1\n")

    assert report(tmp_path).startswith(
        f"{tmp_path.name}: 3 lines of code, with 11.0 characters each. For each 1,000"
        " of them, 333.3 conditional expressions and 0.0 functions"
    )
