"""The surroundings of tasks. Writes the measures of a run when it has ended."""

from __future__ import annotations

from tests.fuzz.measures import MEASURES
from tests.unit.conftest import world  # noqa: F401 # fixture


def pytest_sessionfinish() -> None:
    """Write the measures."""
    MEASURES.write()
