"""
How the code reads, in figures: ``python -m tests.packaging.readability``. No figure here
fails a test; ``test_readability.py`` has the rules.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import polysync_airflow
import sagemaker_emulator

PACKAGES: Final = [
    Path(polysync_airflow.__file__).parent,
    Path(sagemaker_emulator.__file__).parent,
]
LONG_FUNCTION: Final = 40
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


def lines_of_body(function: Function) -> int:
    """Return how many lines a function has below its signature and docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (function.end_lineno or 0) - body[0].lineno + 1


def report(package: Path) -> str:
    """Return the figures of a package."""
    modules = modules_of(package)
    code = [line for module in modules for line in module.code]
    nodes = [node for _, node in nodes_of(modules)]
    choices = sum(isinstance(node, ast.IfExp) for node in nodes)
    bodies = [lines_of_body(node) for node in nodes if isinstance(node, Function)]
    long = sum(lines > LONG_FUNCTION for lines in bodies)
    thousands = len(code) / 1000
    return (
        f"{package.name}: {len(code):,} lines of code, with"
        f" {sum(len(line.strip()) for line in code) / len(code):.1f} characters each."
        f" For each 1,000 of them, {choices / thousands:.1f} conditional expressions"
        f" and {long / thousands:.1f} functions of more than {LONG_FUNCTION} lines."
        f" A function has {sum(bodies) / len(bodies):.1f} lines, and at most"
        f" {max(bodies)}."
    )


if __name__ == "__main__":
    for each in PACKAGES:
        sys.stdout.write(f"{report(each)}\n")
