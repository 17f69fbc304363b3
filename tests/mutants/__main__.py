"""
Changes the code, and shows the changes that no test notices: ``make mutants`` and
``make mutants-drivers``.

``[tool.mutmut]`` in pyproject.toml names the pure cores with their tests, and
``[[tool.mutmut.drivers]]`` groups of drivers with theirs. ``equivalent.toml`` beside
this file names the changes that make no difference, each with the reason. A pattern
such as ``polysync_airflow.records.*`` tries the changes whose names it matches.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, NamedTuple

from mutmut.configuration import config, reset_config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
NOTICED: Final = ("killed", "timeout", "caught by type check")
# The lines of a hunk in the new file.
HUNK: Final = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")
NOT_TRIED: Final = ("not checked", "check was interrupted by user")
# Whatever mutmut has stored of earlier runs goes by the modules, not by their tests.
FOLDER: Final = Path("mutants")
# mutmut takes its configuration from pyproject.toml only, so what is different for a
# group replaces it.
MUTMUT: Final = """
import json, sys
from mutmut.__main__ import cli
from mutmut.configuration import config
settings = json.loads(sys.argv[1])
options = [f"--max-children={settings.pop(name)}" for name in ("max_children",) if name in settings]
vars(config()).update(settings)
sys.argv[1:] = ["run", *options, *sys.argv[2:]]
cli()
"""


# Drivers wait, and a changed one may wait for what never comes. The tests of the pure
# cores only compute.
DRIVERS: Final = {"timeout_multiplier": 5.0, "timeout_constant": 10.0}


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
    """
    Run the tests of each mutant, and return 0 if exactly those in the list are left.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__
    )
    parser.add_argument(
        "patterns", nargs="*", metavar="PATTERN", help="only mutants whose names match"
    )
    parser.add_argument(
        "--drivers",
        action="store_true",
        help="change the drivers; without a pattern, a tenth of them each day",
    )
    parser.add_argument(
        "--since",
        metavar="DATE",
        help="change only what commits since then have changed in the pure cores, for example '1 day ago'",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=90,
        help="for the tenth, and for --since; default: %(default)s",
    )
    arguments = parser.parse_args()
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    listed = tomllib.loads(EQUIVALENT.read_text())
    if arguments.since:
        patterns = list(dict.fromkeys(_changed_functions(arguments.since)))
        if not any(_is_in(path, patterns) for path in walk_mutatable_files()):
            print(
                f"No commit since {arguments.since} has changed a function of the pure cores."
            )
            return 0
        return _try({}, patterns, patterns, listed, 60 * arguments.minutes)
    if not arguments.drivers:
        return _try({}, arguments.patterns, arguments.patterns, listed, None)
    # The last digit of a mutant's number.
    names = arguments.patterns or [f"*__mutmut_*{date.today().toordinal() % 10}"]  # noqa: DTZ011 # any will do
    end, failed = time.monotonic() + 60 * arguments.minutes, 0
    for number, group in enumerate(settings["drivers"]):
        # What a group leaves is for those after it.
        seconds = (end - time.monotonic()) / (len(settings["drivers"]) - number)
        limit = None if arguments.patterns else seconds
        failed |= _try({**DRIVERS, **group}, arguments.patterns, names, listed, limit)
    return failed


def _changed_functions(date: str) -> Iterator[str]:
    """
    Return a pattern for the mutants of each function of the provider that commits since
    a date have changed.
    """
    before = _git("rev-list", "--max-count=1", f"--before={date}", "HEAD").strip()
    # All commits are newer.
    before = before or _git("hash-object", "-t", "tree", "/dev/null").strip()
    file = Path()
    for line in _git(
        "diff", "--unified=0", before, "HEAD", "--", "polysync_airflow"
    ).splitlines():
        if line.startswith("+++ "):
            file = Path(line.removeprefix("+++ b/"))
        elif (hunk := HUNK.match(line)) and file.suffix == ".py":
            first, count = int(hunk[1]), int(hunk[2] or 1)
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.FunctionDef)
                    and node.lineno < first + count
                    and first <= _end(node)
                ):
                    # mutmut names a function x_function, and a method xǁClassǁmethod.
                    yield f"{_module(file)}.x*[_ǁ]{node.name}__mutmut_*"


def _end(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True
    ).stdout


def _try(
    group: Mapping[str, Any],
    patterns: Sequence[str],
    names: Sequence[str],
    listed: Mapping[str, Any],
    seconds: float | None,
) -> int:
    """Try the mutants of a group; return 0 if all is well."""
    reset_config()
    vars(config()).update(group)
    if patterns:
        paths = [str(path) for path in walk_mutatable_files() if _is_in(path, patterns)]
        if not paths:
            return 0
        group = {**group, "only_mutate": paths}
        vars(config()).update(group)
    shutil.rmtree(FOLDER, ignore_errors=True)
    mutmut = _run_mutmut(group, names, seconds)
    # mutmut also ends without an error if it gets a signal.
    is_untried = any(
        status in NOT_TRIED
        and (not names or any(fnmatch(name, pattern) for pattern in names))
        for name, _, status in _results()
    )
    if mutmut and (mutmut.returncode or is_untried):
        print(mutmut.stdout)
        return 1
    return _judge(listed, is_sample=bool(names) and not patterns)


def _is_in(path: Path, patterns: Sequence[str]) -> bool:
    start = f"{_module(path)}."
    return any(
        fnmatch(start, pattern) or pattern.startswith(start) for pattern in patterns
    )


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def _run_mutmut(
    group: Mapping[str, Any], names: Sequence[str], seconds: float | None
) -> subprocess.CompletedProcess[str] | None:
    """
    Run mutmut; return None if its time was up. What it has found by then is in its
    folder.
    """
    command = [sys.executable, "-c", MUTMUT, json.dumps(group), *names]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"\nThe time of {seconds:.0f} s is up.")
            with suppress(subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGINT)
                process.communicate(timeout=30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return None
    return subprocess.CompletedProcess(command, process.returncode, output)


def _judge(listed: Mapping[str, Any], *, is_sample: bool) -> int:
    """
    Print the mutants that no test notices. Of a sample, only those of complete modules
    are failures.
    """
    results = list(_results())
    modules = [f"{_module(path)}." for path in walk_mutatable_files()]
    expected = {Mutant(**entry) for entry in listed["mutant"]}
    expected = {
        mutant for mutant in expected if mutant.function.startswith(tuple(modules))
    }
    functions = {mutant.function for mutant in expected}
    tried = [result for result in results if result[2] not in NOT_TRIED]
    found = {
        _mutant(name, path) for name, path, status in tried if status not in NOTICED
    }
    possible = {
        _mutant(name, path)
        for name, path, status in results
        if status not in NOTICED and _function(name) in functions
    }
    for mutant in sorted(found - expected):
        print(
            f"\nNo test notices this change of {mutant.function}:\n- {mutant.line}\n+ {mutant.changed}"
        )
    wrong = expected - possible
    for mutant in sorted(wrong):
        print(
            f"\n{EQUIVALENT.name} names a change that a test notices, or that is not made:\n{mutant}"
        )
    print(
        f"\n{len(results)} mutants, {len(tried)} tried, {len(found - expected)} unnoticed, "
        f"{len(found & expected)} equivalent: {config().only_mutate}"
    )
    complete = (
        tuple(f"{module}." for module in listed["complete_drivers"])
        if is_sample
        else ("",)
    )
    unnoticed = any(mutant.function.startswith(complete) for mutant in found - expected)
    return int(unnoticed or bool(wrong) or not tried)


def _results() -> Iterator[tuple[str, Path, str]]:
    """Return the name of each mutant, its file and what became of it."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            yield name, path, status_by_exit_code[exit_code]


def _mutant(name: str, path: Path) -> Mutant:
    diff = get_diff_for_mutant(name, path=path).splitlines()
    return Mutant(_function(name), _lines(diff, "-"), _lines(diff, "+"))


def _function(name: str) -> str:
    function, class_name = orig_function_and_class_names_from_key(name)
    return ".".join(filter(None, (name.rpartition(".")[0], class_name, function)))


def _lines(diff: list[str], sign: str) -> str:
    # The first two lines of a diff name the files.
    return " ".join(
        " ".join(line[1:] for line in diff[2:] if line.startswith(sign)).split()
    )


if __name__ == "__main__":
    raise SystemExit(main())
