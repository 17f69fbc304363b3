"""The pages of the reference, compared with commands and docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Final

import pytest

from polysync_airflow import operators, sensors
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from tests.documentation.reference import COMMON, PAGE, parts, write_parts
from tests.pages import page
from tests.unit.cli.commands import COMMANDS

CLASSES: Final[dict[str, type]] = {
    each.__name__: each
    for each in (
        *(getattr(operators, name) for name in operators.__all__),
        *(getattr(sensors, name) for name in sensors.__all__),
        PolysyncPipelineTaskGroup,
    )
    if isinstance(each, type)
}


def test_page_has_what_the_commands_say() -> None:
    """``python -m tests.documentation.reference`` writes it again."""
    text = PAGE.read_text()

    assert write_parts(text) == text
    # The commands of the emulator, a package of its own, have pages of their own.
    commands = COMMANDS.keys() - {"polysync emulator", "polysync verify"}
    assert sorted(parts(text)) == sorted([COMMON, *commands])


def test_every_class_is_in_the_reference_once() -> None:
    """The site has the docstring of each operator, sensor and group, and no others."""
    described = [
        path
        for name in ("operators", "sensors")
        for path in re.findall(
            r"^::: ([\w.]+[.][A-Z]\w+)$", page(f"reference/{name}.md").text, re.M
        )
    ]

    assert sorted(path.rpartition(".")[2] for path in described) == sorted(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_in_the_docstring(name: str) -> None:
    """The docstring has each argument, and no others."""
    arguments = set(inspect.signature(CLASSES[name]).parameters)

    documented = re.findall(
        r"^:param (\w+): \S", inspect.getdoc(CLASSES[name]) or "", re.M
    )

    assert {*documented} - {"kwargs"} == arguments - {"kwargs"}


def test_options_have_a_text() -> None:
    """Nobody has to guess what an option does."""
    silent = [
        f"{name} {action.dest}"
        for name, parser in COMMANDS.items()
        for action in parser._actions
        if not action.help
    ]

    assert silent == []
