"""Which versions of Airflow are supported, and what each of them has."""

from __future__ import annotations

import pytest

from polysync_airflow.airflow_compat.capabilities import (
    CAPABILITIES,
    capabilities_of,
    warnings_of,
)
from polysync_airflow.airflow_compat.sdk import BaseOperator


@pytest.mark.parametrize(
    ("version", "features"),
    [
        ("2.11.0", 1),
        ("2.11.2", 1),
        ("2.12.0", 1),
        ("3.2.0", 5),
        ("3.2.2", 5),
        ("3.3.0b1", 13),
        ("3.3.2", 13),
        ("3.4.0b2", 14),
        ("3.10.0", 14),
        ("4.0.0", 14),
    ],
)
def test_each_version_has_the_features_of_its_line(version: str, features: int) -> None:
    """A version has the features of the newest line that is not newer than itself."""
    assert sum(capabilities_of(version)) == features


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("2.10.5", "it is too old"),
        ("1.10.15", "it is too old"),
        ("3.0.6", "loses the triggers of all tasks"),
        ("3.1.8", "loses the triggers of all tasks"),
        ("unknown", "it is too old"),
    ],
)
def test_other_versions_are_refused_by_name(version: str, reason: str) -> None:
    """
    The error names the version, the reason, and the versions that can be installed.
    """
    with pytest.raises(
        ImportError,
        match=f"does not support Airflow {version}: .*{reason}.*Install Airflow 2.11",
    ):
        capabilities_of(version)


def test_the_running_version_has_the_features() -> None:
    """The table is true for the version on which the tests run."""
    from airflow.plugins_manager import AirflowPlugin
    from airflow.triggers.base import BaseTrigger

    assert hasattr(BaseTrigger, "on_kill") is CAPABILITIES.trigger_on_kill
    assert (
        hasattr(BaseOperator(task_id="t"), "retry_policy") is CAPABILITIES.retry_policy
    )
    assert hasattr(AirflowPlugin, "react_apps") is CAPABILITIES.react_apps


@pytest.mark.parametrize(
    "version", ["2.11.2", "3.2.1", "3.3.2", "3.4.0", "3.4.0rc1", "3.4.1"]
)
def test_a_tested_version_has_no_warning(version: str) -> None:
    """Neither has a patch release of a tested minor version."""
    assert warnings_of(version) == []


@pytest.mark.parametrize("version", ["3.5.0b1", "3.10.0", "4.0.0"])
def test_a_version_that_is_newer_than_the_tested_ones_has_a_warning(
    version: str,
) -> None:
    """
    The warning names the version, the newest that is tested, what is not tested, and
    what to do.
    """
    (text,) = warnings_of(version)
    assert (
        f"not tested on Airflow {version}, only up to Airflow 3.4. Not tested are"
        in text
    )
    assert "at most one execution" in text
    assert text.endswith("or install Airflow 3.4.")


def test_a_version_whose_scheduler_exits_has_a_warning() -> None:
    """The warning says what happens, and where the cause is."""
    (text,) = warnings_of("3.4.0b2")
    assert text.startswith("The scheduler of Airflow 3.4.0b2 exits")
    assert "Do not use this version in production" in text
