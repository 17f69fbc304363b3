"""
Changes the pure cores, and shows the changes that no test of theirs notices: ``make mutants``.

``[tool.mutmut]`` in pyproject.toml names the modules and their tests. ``equivalent.toml`` beside this file names the
changes that make no difference, each with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
NOTICED: Final = ("killed", "timeout", "caught by type check")
# Whatever mutmut has stored of earlier runs goes by the modules, not by their tests.
FOLDER: Final = Path("mutants")


class Mutant(NamedTuple):
    """
    A changed line of a module.

    :param function: the function, with its module and class.
    :param line: the line as it is; several lines are joined by spaces.
    :param changed: the line that replaces it.
    """

    function: str
    line: str
    changed: str


def main() -> int:
    """Run the tests of each mutant, and return 0 if exactly those in the list are left."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    command = [sys.executable, "-m", "mutmut", "run", *sys.argv[1:]]
    mutmut = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if mutmut.returncode:
        print(mutmut.stdout)
        return mutmut.returncode
    found, total = survivors()
    expected = {
        Mutant(entry["function"], entry["line"], entry["changed"])
        for entry in tomllib.loads(EQUIVALENT.read_text()).get("mutant", [])
    }
    for mutant in sorted(found - expected):
        print(f"\nNo test notices this change of {mutant.function}:\n- {mutant.line}\n+ {mutant.changed}")
    for mutant in sorted(expected - found):
        print(f"\n{EQUIVALENT.name} names a change that a test notices, or that is not made:\n{mutant}")
    print(f"\n{total} mutants, {len(found - expected)} unnoticed, {len(found & expected)} equivalent")
    return int(found != expected)


def survivors() -> tuple[set[Mutant], int]:
    """Return the mutants with which all tests pass or that no test runs, and the number of all mutants."""
    found, total = set(), 0
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        total += len(data.exit_code_by_key)
        for name, exit_code in data.exit_code_by_key.items():
            if status_by_exit_code[exit_code] not in NOTICED:
                diff = get_diff_for_mutant(name, path=path).splitlines()
                function = ".".join(filter(None, (name.rpartition(".")[0], *_class_and_function(name))))
                found.add(Mutant(function, _lines(diff, "-"), _lines(diff, "+")))
    return found, total


def _class_and_function(name: str) -> tuple[str | None, str]:
    function, class_name = orig_function_and_class_names_from_key(name)
    return class_name, function


def _lines(diff: list[str], sign: str) -> str:
    # The first two lines of a diff name the files.
    return " ".join(" ".join(line[1:] for line in diff[2:] if line.startswith(sign)).split())


if __name__ == "__main__":
    raise SystemExit(main())
