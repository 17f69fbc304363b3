"""The versions with pins are those that the package names."""

from __future__ import annotations

from packaging.version import Version

from polysync_airflow.airflow_compat.capabilities import NEWEST_TESTED, capabilities_of
from tests.matrix.environment import VERSIONS


def test_the_newest_tested_version_is_that_of_the_matrix() -> None:
    """
    Each version with pins is supported, and the newest of them is the newest that
    counts as tested.
    """
    assert [bool(capabilities_of(version)) for version in VERSIONS] == [True] * len(
        VERSIONS
    )
    assert Version(VERSIONS[-1]).release[:2] == NEWEST_TESTED
