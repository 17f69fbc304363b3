"""
Writes what the code says of commands and classes into the pages of the reference:

    python -m tests.documentation.reference

A page has ``<!-- from the code: polysync check -->`` where the description and the
options of this command begin, or ``<!-- from the code: PolysyncPipelineSensor -->``
where the arguments of this class begin, and ``<!-- end -->`` where they end. The test
compares the pages with the code.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from polysync_airflow import operators, sensors
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from tests.pages import DOCS
from tests.unit.cli.commands import COMMANDS

PAGES: Final = tuple(
    DOCS / "reference" / name
    for name in ("cli.md", "dags.md", "operators.md", "sensors.md")
)
_PART: Final = re.compile(
    r"(<!-- from the code: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL
)
# As ``help`` has it at its end: "(default: none)", or "; default: none".
_DEFAULT_OF_OPTION: Final = re.compile(r"(?: \(|; )default: ([^)]*)\)?$")
# As a docstring has it at its end.
_DEFAULT_OF_ARGUMENT: Final = re.compile(r"\s*\bDefault: (.*)\.$")
_DAY: Final = 86400
# The options that many commands have are on the page once: those of this command, which
# has no others.
COMMON: Final = "options of several commands"
ONLY_COMMON: Final = "polysync check"
# The pages name them once, for all classes.
COMMON_ARGUMENTS: Final = ("polysync_conn_id", "region_name")
# Name, default and text.
Row = tuple[str, str, str]
CLASSES: Final[dict[str, type]] = {
    each.__name__: each
    for each in (
        *(getattr(operators, name) for name in operators.__all__),
        *(getattr(sensors, name) for name in sensors.__all__),
        PolysyncPipelineTaskGroup,
    )
    if isinstance(each, type)
}


def write_parts(page: str) -> str:
    """Return the text of a page, with each part as the code has it now."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{_text(found['name'])}\n{found[3]}"

    return _PART.sub(part, page)


def parts(page: str) -> list[str]:
    """Return the names of the commands and classes that a page describes."""
    return [found["name"] for found in _PART.finditer(page)]


def _text(name: str) -> str:
    if name == COMMON:
        return _table("Option", _rows_of(COMMANDS[ONLY_COMMON]))
    if name in CLASSES:
        return _table("Argument", _argument_rows(CLASSES[name]))
    return _command(COMMANDS[name])


def _table(title: str, rows: Iterable[Row]) -> str:
    lines = [f"| {title} | Default | |", "|---|---|---|"]
    for name, default, text in rows:
        lines.append(f"| `{name}` | {default} | {text} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


# ---- commands


def _command(parser: argparse.ArgumentParser) -> str:
    # A paragraph is one line in Markdown, as the lines between are only wrapped.
    paragraphs = [
        _escaped(" ".join(paragraph.split())) + "\n"
        for paragraph in (parser.description or "").split("\n\n")
        if paragraph
    ]
    common = _rows_of(COMMANDS[ONLY_COMMON])
    own = [row for row in _rows_of(parser) if row not in common]
    if own:
        paragraphs.append(_table("Option", own))
    return "\n".join(paragraphs)


def _rows_of(parser: argparse.ArgumentParser) -> list[Row]:
    actions = [action for action in parser._actions if action.dest != "help"]
    # An option with one choice is there for scripts that give it to each command.
    return [_option(each) for each in actions if len(list(each.choices or ())) != 1]


def _option(action: argparse.Action) -> Row:
    text = (action.help or "") % vars(action)
    default = "required" if action.required else ""
    found = _DEFAULT_OF_OPTION.search(text)
    if found:
        text = text[: found.start()]
        default = found[1]
    if default and default == str(action.default):
        default = f"`{default}`"
    return _option_name(action), _escaped(default), _escaped(text)


def _option_name(action: argparse.Action) -> str:
    if not action.option_strings:
        return str(action.metavar)
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    if action.choices:
        return f"{name} {{{','.join(action.choices)}}}"
    return f"{name} {action.metavar or action.dest.upper()}"


def _escaped(text: str) -> str:
    """Return a text of a terminal so that Markdown shows it as it is."""
    return re.sub(r"([*<|])", r"\\\1", text)


# ---- arguments


def _argument_rows(of_class: Any) -> Iterator[Row]:
    signature = inspect.signature(of_class).parameters
    for name, text in documented_arguments(of_class).items():
        parameter = signature[name]
        if parameter.kind is parameter.VAR_KEYWORD or name in COMMON_ARGUMENTS:
            continue
        default = _default(parameter.default)
        found = _DEFAULT_OF_ARGUMENT.search(text)
        if found:
            default = found[1]
        without_default = _DEFAULT_OF_ARGUMENT.sub("", text)
        yield name, default, without_default.removesuffix(".")


def documented_arguments(of_class: Any) -> dict[str, str]:
    """Return the texts of the ``:param`` lines of a docstring, in Markdown."""
    fields = re.split(r"^:", inspect.getdoc(of_class) or "", flags=re.MULTILINE)
    found = (re.fullmatch(r"param (\w+): (.*)", each, re.DOTALL) for each in fields)
    return {
        each[1]: " ".join(each[2].split()).replace("``", "`").replace("|", "\\|")
        for each in found
        if each
    }


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{value}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if value >= _DAY and value % _DAY == 0:
        return f"{value / _DAY:g} days"
    return f"{value:g}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(write_parts(path.read_text()))
