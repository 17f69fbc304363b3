"""The pages of the reference, compared with commands and docstrings."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.documentation.reference import (
    CLASSES,
    COMMON,
    PAGES,
    documented_arguments,
    parts,
    write_parts,
)
from tests.unit.cli.commands import COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_have_what_the_code_says(page: Path) -> None:
    """``python -m tests.documentation.reference`` writes it again."""
    text = page.read_text()

    assert write_parts(text) == text


def test_every_command_and_class_is_in_the_reference_once() -> None:
    """The pages describe each command, operator, sensor and group, and no others."""
    described = [name for page in PAGES for name in parts(page.read_text())]

    assert sorted(described) == sorted([COMMON, *COMMANDS, *CLASSES])


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_in_the_docstring(name: str) -> None:
    """The docstring has each argument, and no others."""
    arguments = inspect.signature(CLASSES[name]).parameters

    own = set(arguments) - {"kwargs"}
    assert set(documented_arguments(CLASSES[name])) - {"kwargs"} == own


def test_options_have_a_text() -> None:
    """Nobody has to guess what an option does."""
    silent = [
        f"{name} {action.dest}"
        for name, parser in COMMANDS.items()
        for action in parser._actions
        if not action.help
    ]

    assert silent == []
