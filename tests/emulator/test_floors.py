"""Which room of the emulator may use which."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import polysync_airflow.emulator

PACKAGE = "polysync_airflow.emulator"
FOLDER = Path(polysync_airflow.emulator.__file__).parent
# From the bottom up; a room may import rooms of lower floors only, and those of ENGINE nothing but the
# standard library.
FLOORS = (
    {"clock", "definition", "errors", "expressions", "scenarios", "timing", "policies", "client", "calllog"},
    {"conditions", "parameters", "faults", "paging", "validation", "wire", "trust", "sign_in", "issuers"},
    {"engine"},
    {"store"},
    {"calls", "moto_app", "iam"},
    {"pipeline_operations", "selection", "step_answers", "sessions", "access", "web_identity"},
    {"execution_operations", "callers"},
    {"sts"},
    {"api"},
    {"control"},
    {"front"},
    {"server"},
    {"__init__"},
    {"__main__"},
)
ENGINE = {"clock", "definition", "expressions", "scenarios", "timing", "conditions", "parameters", "engine"}


def imports(room: str) -> set[str]:
    """Return the modules that a room imports, those of this package without its name."""
    tree = ast.parse((FOLDER / f"{room}.py").read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found |= {f"{PACKAGE}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.removeprefix(f"{PACKAGE}.") for name in found}


def test_every_room_has_a_floor() -> None:
    """A new module must be given a place in the order."""
    assert {file.stem for file in FOLDER.glob("*.py")} == set().union(*FLOORS)


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_rooms_import_downwards(floor: int) -> None:
    """No room knows a room of its own or a higher floor."""
    above = set().union(*FLOORS[floor:])
    for room in FLOORS[floor]:
        assert not imports(room) & above, room


@pytest.mark.parametrize("room", sorted(ENGINE))
def test_the_engine_needs_the_standard_library_only(room: str) -> None:
    """The engine and what it stands on know nothing of HTTP, botocore or moto."""
    outside = {name.partition(".")[0] for name in imports(room)} - ENGINE - {"polysync_airflow"}
    assert outside <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("room", sorted(ENGINE - {"clock"}))
def test_the_engine_reads_no_clock_and_no_chance(room: str) -> None:
    """Only the clock's room may ask what time it is."""
    assert not imports(room) & {"time", "datetime", "random", "secrets", "uuid"}
