"""
The parser of the commands: an error is one line, and says what a misspelled option may
mean.
"""

from __future__ import annotations

import argparse
import difflib
import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NoReturn

ERROR: Final = 2


def _help_formatter() -> Any:
    if find_spec("rich_argparse"):
        # Airflow's own commands use it, so all commands of polysync look the same.
        base = import_module("rich_argparse.contrib").ParagraphRichHelpFormatter
        # Brackets in texts are no markup.
        return type(
            base.__name__, (base,), {"help_markup": False, "text_markup": False}
        )
    return argparse.HelpFormatter


class Parser(argparse.ArgumentParser):
    """A parser with options that cannot be abbreviated."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            formatter_class=_help_formatter(), allow_abbrev=False, **kwargs
        )
        output = "form of the result (default: %(default)s)"
        self.add_argument(
            "--output", choices=["text", "json"], default="text", help=output
        )

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        hint = self._hint(message)
        self.exit(
            ERROR, f"error: {self.prog}: {message}. {hint}Try: {self.prog} --help\n"
        )

    def _hint(self, message: str) -> str:
        """Return what a misspelled option or value may mean; empty if nothing does."""
        option = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        choice = re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if choice:
            word = choice[1]
            candidates = re.findall(r"[\w-]+", choice[2])
        elif option:
            word = option[1]
            candidates = [
                name for action in self._actions for name in action.option_strings
            ]
        else:
            return ""

        similar = difflib.get_close_matches(word, candidates, 1)
        if not similar:
            return ""
        return f"Did you mean {similar[0]}? "
