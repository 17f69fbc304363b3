"""The code reads well, as far as figures can say so."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import polysync_airflow
import sagemaker_emulator

PACKAGES: Final = [
    Path(polysync_airflow.__file__).parent,
    Path(sagemaker_emulator.__file__).parent,
]
# For each 1,000 lines of code.
MAX_TUPLE_ASSIGNMENTS: Final = 1
MAX_CONDITIONAL_EXPRESSIONS: Final = 12
MAX_LONG_LINES: Final = 5
# The mean of all lines of code.
MAX_CHARACTERS: Final = 35
LONG_LINE: Final = 100
MAX_FUNCTION_LINES: Final = 60
NO_CODE: Final = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One file of a package."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def code(self) -> list[str]:
        """The lines of code: no comments, docstrings and blank lines."""
        numbers: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in NO_CODE:
                numbers.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | Function):
                numbers.difference_update(lines_of_docstring(node))
        lines = self.text.splitlines()
        return [lines[number - 1] for number in sorted(numbers)]


def lines_of_docstring(node: ast.Module | ast.ClassDef | Function) -> range:
    """Return the numbers of the lines of a docstring."""
    if ast.get_docstring(node, clean=False) is None:
        return range(0)
    docstring = node.body[0]
    return range(docstring.lineno, (docstring.end_lineno or 0) + 1)


def modules_of(package: Path) -> list[Module]:
    """Return the files of a package."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf8")
        modules.append(Module(path, text, ast.parse(text)))
    return modules


def nodes_of(modules: list[Module]) -> Iterator[tuple[str, ast.AST]]:
    """Yield all nodes, with the name of their file."""
    for module in modules:
        for node in ast.walk(module.tree):
            yield module.path.name, node


def is_tuple_assignment(node: ast.AST) -> bool:
    """Return whether two thoughts share a statement: ``a, b = x, y``."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    )


def lines_of_body(function: Function) -> int:
    """Return how many lines a function has below its signature and docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (function.end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_lines_are_not_dense(package: Path) -> None:
    """A statement says one thing."""
    modules = modules_of(package)
    code = [line for module in modules for line in module.code]
    nodes = [node for _, node in nodes_of(modules)]
    thousands = len(code) / 1000

    tuple_assignments = sum(map(is_tuple_assignment, nodes))
    conditional_expressions = sum(isinstance(node, ast.IfExp) for node in nodes)
    long_lines = sum(len(line) > LONG_LINE for line in code)
    characters = sum(len(line.strip()) for line in code)

    assert tuple_assignments / thousands <= MAX_TUPLE_ASSIGNMENTS
    assert conditional_expressions / thousands <= MAX_CONDITIONAL_EXPRESSIONS
    assert long_lines / thousands <= MAX_LONG_LINES
    assert characters / len(code) <= MAX_CHARACTERS


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
