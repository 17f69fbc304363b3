"""The file of a catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a catalogue, which does not exist yet."""
    return tmp_path / "jobs.yaml"
