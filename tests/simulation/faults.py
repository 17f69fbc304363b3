"""
Faults that histories must find: what was seen, and decisions that are taken wrongly.

A fault is a change of a module's text. It is put in when the module is imported, so
that no file of it changes::

    make simulation ARGS=--faults             how many histories find each of them
    make simulation ARGS="--faults 'NAME'"    the same for one of them
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any, Final, NamedTuple

MAX_HISTORIES: Final = 2000


class Fault(NamedTuple):
    """
    A change of a module; see ``faults.toml``.

    :param finds: the statement of the oracle that must not hold with it.
    :param often: as for ``plans.draw``.
    """

    name: str
    finds: str
    module: str
    old: str
    new: str
    often: tuple[str, ...] = ()


_FOLDER: Final = Path(__file__).parent
FAULTS: Final = tuple(
    Fault(**fault)
    for fault in tomllib.loads((_FOLDER / "faults.toml").read_text())["faults"]
)
# Written by ``find``.
TABLE: Final = _FOLDER / "faults.md"
_HEAD: Final = """\
# How many histories find each fault

| Fault | What finds it | What is often drawn | Histories |
|---|---|---|---|
"""
ROW: Final = re.compile(r"^\| ([^|`]+) \| `.*\| ([^|]+) \|$", re.M)


def named(name: str) -> Fault:
    """Return a fault."""
    return next(each for each in FAULTS if each.name == name)


def put_in(fault: Fault) -> None:
    """Change a module, which must not be imported yet."""
    if fault.module in sys.modules:
        raise ValueError(f"{fault.module} is imported already")
    loaders: Any = SourceFileLoader
    get_code = loaders.get_code

    def changed_code(loader: SourceFileLoader, fullname: str) -> CodeType:
        if fullname != fault.module:
            code: CodeType = get_code(loader, fullname)
            return code
        # Never from a cache, which has the module as it is.
        text = changed(fault, Path(loader.path).read_text())
        return compile(text, loader.path, "exec", dont_inherit=True)

    loaders.get_code = changed_code


def changed(fault: Fault, text: str) -> str:
    """
    Return the text of a module with a fault.

    :raises ValueError: the module does not have the text that is replaced, once.
    """
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.module} has not once: {fault.old}")
    return text.replace(fault.old, fault.new)


def find(names: list[str]) -> int:
    """
    Print how many histories find faults, and store it in the table.

    :param names: those of the faults; empty for all.
    :return: the exit status: 1 if one is not found.
    """
    missed = 0
    for fault in map(named, names or [each.name for each in FAULTS]):
        command = [sys.executable, "-m", "tests.simulation", "search", "0"]
        command += [str(MAX_HISTORIES), "--fault", fault.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        *_, last = done.stdout.splitlines() or [done.stderr]
        found = re.fullmatch(f"{fault.finds} in ([0-9]+) histories", last)
        missed += found is None
        print(f"{fault.name}: {last}", flush=True)
        _store(fault, found[1] if found else "not found")
    return int(missed > 0)


def _store(fault: Fault, histories: str) -> None:
    stored = dict(ROW.findall(TABLE.read_text()))
    stored[fault.name] = histories
    rows = [
        f"| {each.name} | `{each.finds}` | {', '.join(each.often)} |"
        f" {stored.get(each.name, 'not measured')} |\n"
        for each in FAULTS
    ]
    TABLE.write_text(_HEAD + "".join(rows))
