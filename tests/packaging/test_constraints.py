"""
constraints.txt, which pins the packages of the virtual environments, and
constraints-hashed.txt, which has their hashes, too.
"""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
HASHED = (ROOT / "constraints-hashed.txt").read_text().splitlines()


def canonical(name: str) -> str:
    """Return the normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_plain_pins() -> None:
    """
    Each line is ``name==version``, without URLs and hashes, and no name is pinned
    twice.
    """
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.!]+", line) for line in LINES]

    assert [line for line, pin in zip(LINES, pins, strict=True) if not pin] == []
    names = [canonical(pin[1]) for pin in pins if pin]
    assert len(names) == len(set(names))
    assert {"polysync-airflow", "sagemaker-pipelines-emulator"}.isdisjoint(names)


def test_twin_has_hashes_of_the_same_pins_and_nothing_else() -> None:
    """
    Each line is ``name==version --hash=sha256:...``, without the address of an index.
    """
    form = r"([A-Za-z0-9._-]+==[A-Za-z0-9.!+]+)( --hash=sha256:[0-9a-f]{64})+"
    pins = [re.fullmatch(form, line) for line in HASHED]

    assert [line for line, pin in zip(HASHED, pins, strict=True) if not pin] == []
    assert {canonical(pin[1]) for pin in pins if pin} == {
        canonical(line) for line in LINES
    }


def test_constraints_pin_every_requirement() -> None:
    """
    Every direct requirement is pinned, including those of the extras and dependency
    groups.
    """
    configs = [
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
        for folder in (".", "emulator")
    ]
    groups = [
        group
        for config in configs
        for group in (
            config["project"]["dependencies"],
            *config["project"].get("optional-dependencies", {}).values(),
            *config["dependency-groups"].values(),
        )
    ]
    required = {
        canonical(re.split(r"[\[<>=;~! ]", entry)[0]) for entry in chain(*groups)
    }

    pinned = {canonical(line.split("==")[0]) for line in LINES}

    assert required - pinned == {"polysync-airflow", "sagemaker-pipelines-emulator"}
