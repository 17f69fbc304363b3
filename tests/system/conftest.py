"""Owns the one emulator and the one private Airflow that all system tests share, as each takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"

# The 38 minutes of churn-tuning take 25 s: time to look at a task while it waits.
SPEED = 90


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEmulator]:
    """An emulator with the example pipelines."""
    home = tmp_path_factory.mktemp("emulator")
    with LocalEmulator(home, speed=SPEED, definitions=EXAMPLES / "definitions") as running:
        yield running


@pytest.fixture(scope="session")
def airflow(emulator: LocalEmulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateAirflow]:
    """A private Airflow whose ``polysync_default`` leads to the emulator."""
    with PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dag_folders=[EXAMPLES, HERE / "dags"],
        connections={"polysync_default": emulator.connection},
    ) as running:
        yield running
