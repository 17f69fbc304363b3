"""What the virtual environment is made from."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "constraints.txt").read_text().splitlines()


def canonical(name: str) -> str:
    """Return a distribution's name as the index knows it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_plain_pins() -> None:
    """Each line is ``name==version``, once: no address, no hash, nothing of one machine."""
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.!]+", line) for line in LINES]

    assert [line for line, pin in zip(LINES, pins, strict=True) if not pin] == []
    names = [canonical(pin[1]) for pin in pins if pin]
    assert len(names) == len(set(names))
    assert "polysync-airflow" not in names


def test_constraints_pin_all_that_the_project_asks_for() -> None:
    """Every direct requirement, with those of the emulator, the tests and the linters, has a pin."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = (
        config["project"]["dependencies"],
        *config["project"]["optional-dependencies"].values(),
        *config["dependency-groups"].values(),
    )
    asked = {canonical(re.split(r"[\[<>=;~! ]", entry)[0]) for entry in chain(*groups)}

    pinned = {canonical(line.split("==")[0]) for line in LINES}

    assert asked - pinned == {"polysync-airflow"}
