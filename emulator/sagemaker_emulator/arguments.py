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
# Where Airflow is, so that all commands of polysync look the same.
_FORM: Final = (
    import_module("rich_argparse").RawTextRichHelpFormatter
    if find_spec("rich_argparse")
    else argparse.RawDescriptionHelpFormatter
)


class Parser(argparse.ArgumentParser):
    """A parser with options that cannot be abbreviated."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=_FORM, allow_abbrev=False, **kwargs)
        output = "form of the result (default: %(default)s)"
        self.add_argument(
            "--output", choices=["text", "json"], default="text", help=output
        )

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        names = [name for action in self._actions for name in action.option_strings]
        found = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        if choice := re.search(
            r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message
        ):
            found, names = choice, re.findall(r"[\w-]+", choice[2])
        similar = difflib.get_close_matches(found[1], names, 1) if found else ()
        hint = f"Did you mean {similar[0]}? " if similar else ""
        self.exit(
            ERROR, f"error: {self.prog}: {message}. {hint}Try: {self.prog} --help\n"
        )
