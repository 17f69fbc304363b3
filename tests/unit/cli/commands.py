"""All commands, with their parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from polysync_airflow.cli.command_line import ELSEWHERE
from polysync_airflow.cli.output import make_parser
from sagemaker_emulator import __main__ as emulator
from sagemaker_emulator.verify import command as verify

PARSERS: Final = {
    "polysync": make_parser(),
    "polysync verify": verify.make_parser("polysync verify"),
    "polysync emulator": emulator.make_parser("polysync emulator"),
}


def commands(
    name: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command that does something, with its parser."""
    groups = [
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield name, parser
    for group in groups:
        for word, command in group.choices.items():
            if name != "polysync" or word not in ELSEWHERE:
                yield from commands(f"{name} {word}", command)


COMMANDS: Final = {
    name: parser
    for program, program_parser in PARSERS.items()
    for name, parser in commands(program, program_parser)
}
