"""The rooms: imports go downwards only, and each room stays small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "polysync_airflow"

# Highest floor last. A module may import from its own floor's package and from lower floors.
FLOORS = {
    "polysync_airflow": 0,
    "get_provider_info": 0,
    "exceptions": 0,
    "iam": 0,
    "agenda": 0,
    "inbox": 0,
    "tenure": 0,
    "models": 1,
    "retrying": 1,
    "redaction": 0,
    "pacing": 1,
    "patience": 1,
    "tokens": 1,
    "states": 2,
    "parameters": 2,
    "probe": 2,
    "recovery": 3,
    "rounds": 3,
    "refusals": 1,
    "report": 3,
    "entra": 3,
    "sessions": 3,
    "renewal": 4,
    "credentials": 5,
    "connection": 6,
    "connected": 7,
    "hooks": 8,
    "lane": 9,
    "catalog": 10,
    "channel": 9,
    "stopping": 9,
    "links": 9,
    "subscription": 10,
    "polling": 11,
    "triggers": 12,
    "operators.waiting": 13,
    "operators.remembering": 13,
    "operators.publishing": 13,
    "operators.abandoning": 13,
    "operators.acquiring": 14,
    "operators.owning": 15,
    "operators.start": 16,
    "operators.stop": 16,
    "operators.list_import": 16,
    "operators": 17,
}
NO_AIRFLOW = (
    "iam",
    "agenda",
    "inbox",
    "tenure",
    "pacing",
    "redaction",
    "models",
    "tokens",
    "states",
    "parameters",
    "probe",
    "recovery",
    "refusals",
    "report",
    "entra",
    "renewal",
    "credentials",
    "connection",
    "sessions",
)
NO_AWS = (
    "iam",
    "agenda",
    "inbox",
    "tenure",
    "catalog",
    "pacing",
    "tokens",
    "probe",
    "entra",
    "exceptions",
    "models",
    "states",
    "parameters",
    "report",
    "retrying",
    "links",
    "patience",
    "recovery",
    "polling",
    "rounds",
    "stopping",
    "subscription",
    "triggers",
    "operators.abandoning",
    "operators.acquiring",
    "operators.owning",
    "operators.publishing",
    "operators.remembering",
    "operators.waiting",
    "operators.start",
)

MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "emulator" not in p.parts)


def name_of(path: Path) -> str:
    """Return a module's name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "polysync_airflow"


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports anywhere, by their full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    """A room knows only the rooms below it, so that none can be pulled into a circle."""
    mine = FLOORS[name_of(path)]
    for module in imports_of(path):
        if module.startswith("polysync_airflow.") and not module.startswith("polysync_airflow.emulator"):
            assert FLOORS[module.removeprefix("polysync_airflow.")] < mine, module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_room_of_the_provider_needs_the_emulator(path: Path) -> None:
    """The emulator is an extra: production does not have moto."""
    assert not any(module.startswith("polysync_airflow.emulator") for module in imports_of(path))


@pytest.mark.parametrize("name", NO_AIRFLOW)
def test_pure_rooms_know_no_airflow(name: str) -> None:
    """Decisions and credentials can be tested, and used, without Airflow."""
    modules = imports_of(PACKAGE / f"{name}.py")
    assert not any(module.split(".")[0] == "airflow" for module in modules)


@pytest.mark.parametrize("name", NO_AWS)
def test_aws_is_met_in_the_hook_only(name: str) -> None:
    """boto3 is known to credentials and hooks alone."""
    modules = imports_of(PACKAGE.joinpath(*name.split(".")).with_suffix(".py"))
    assert not any(module.split(".")[0] in ("boto3", "botocore") for module in modules)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_are_small(path: Path) -> None:
    """No module above 400 lines."""
    assert len(path.read_text().splitlines()) <= 400
