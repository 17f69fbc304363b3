"""
Writes what the code says of commands into the reference:

    python -m tests.documentation.reference

The page has ``<!-- from the code: polysync check -->`` where the description and the
options of this command begin, and ``<!-- end -->`` where they end. The test compares
the page with the code. The site has the arguments of classes from their docstrings.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from tests.pages import DOCS
from tests.unit.cli.commands import COMMANDS

PAGE: Final = DOCS / "reference" / "cli.md"
_PART: Final = re.compile(
    r"(<!-- from the code: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL
)
# As ``help`` has it at its end: "(default: none)", or "; default: none".
_DEFAULT_OF_OPTION: Final = re.compile(r"(?: \(|; )default: ([^)]*)\)?$")
# The options that many commands have are on the page once.
COMMON: Final = "options of several commands"
MANY: Final = 3
# Name, default and text.
Row = tuple[str, str, str]


def write_parts(page: str) -> str:
    """Return the text of a page, with each part as the code has it now."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{_text(found['name'])}\n{found[3]}"

    return _PART.sub(part, page)


def parts(page: str) -> list[str]:
    """Return the names of the commands that a page describes."""
    return [found["name"] for found in _PART.finditer(page)]


def _text(name: str) -> str:
    if name == COMMON:
        return _table("Option", _common_rows())
    return _command(COMMANDS[name])


def _table(title: str, rows: Iterable[Row]) -> str:
    lines = [f"| {title} | Default | |", "|---|---|---|"]
    for name, default, text in rows:
        lines.append(f"| `{name}` | {default} | {text} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _command(parser: argparse.ArgumentParser) -> str:
    # A paragraph is one line in Markdown, as the lines between are only wrapped.
    paragraphs = [
        _escaped(" ".join(paragraph.split())) + "\n"
        for paragraph in (parser.description or "").split("\n\n")
        if paragraph
    ]
    common = _common_rows()
    own = [row for row in _rows_of(parser) if row not in common]
    if own:
        paragraphs.append(_table("Option", own))
    return "\n".join(paragraphs)


def _common_rows() -> list[Row]:
    rows = Counter(row for parser in COMMANDS.values() for row in _rows_of(parser))
    return [row for row, count in rows.items() if count >= MANY]


def _rows_of(parser: argparse.ArgumentParser) -> list[Row]:
    actions = [action for action in parser._actions if action.dest != "help"]
    return [_option(each) for each in actions]


def _option(action: argparse.Action) -> Row:
    choices = ", ".join(map(str, action.choices or ()))
    text = (action.help or "") % {**vars(action), "choices": choices}
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
    if action.choices and not action.metavar:
        return f"{name} {{{','.join(action.choices)}}}"
    return f"{name} {action.metavar or action.dest.upper()}"


def _escaped(text: str) -> str:
    """Return a text of a terminal so that Markdown shows it as it is."""
    return re.sub(r"([*<|])", r"\\\1", text)


if __name__ == "__main__":
    PAGE.write_text(write_parts(PAGE.read_text()))
