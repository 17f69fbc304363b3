"""
The pytest plugin: the fixtures ``sagemaker_emulator``, ``load_dag`` and
``airflow_metadata_db``.

pytest imports this module in each session of an environment that has the package, so it
imports nothing heavy. What the fixtures need is imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from polysync_airflow.testing.dag_files import MetadataDatabase
    from polysync_airflow.testing.emulator import SageMakerEmulator

DEFINITIONS: Final = "polysync_definitions"
CONNECTIONS: Final = "polysync_connections"
MARKER: Final = "sagemaker"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options."""
    parser.addini(
        DEFINITIONS,
        "folder of *.json pipeline definitions for sagemaker_emulator, relative to the"
        " root of the tests; default: the example pipelines of the emulator",
        type="string",
        default="",
    )
    parser.addini(
        CONNECTIONS,
        "ids of the Airflow connections that lead to sagemaker_emulator",
        type="args",
        default=["polysync_default"],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(definitions, speed, region, connections): settings of"
        " sagemaker_emulator for a test: the folder of pipeline definitions, the"
        " emulated seconds per second (default: 60), the AWS region (default:"
        " us-east-1), the ids of the connections.",
    )


@pytest.fixture
def sagemaker_emulator(request: pytest.FixtureRequest) -> Iterator[SageMakerEmulator]:
    """
    Run an emulator of SageMaker for one test, and set the Airflow connections that lead
    to it.

    During the test, waits of this provider take no time. See
    ``polysync_airflow.testing.emulator``.
    """
    try:
        from polysync_airflow.testing.emulator import emulator_for_test
    except ImportError as error:
        _fail(
            "The fixture sagemaker_emulator needs packages that are not installed"
            f" ({error.name}). Install them with: pip install"
            " 'polysync-airflow[testing]'"
        )
    with ExitStack() as stack:
        try:
            emulator = stack.enter_context(emulator_for_test(**_settings(request)))
        except (TypeError, ValueError) as error:
            _fail(f"sagemaker_emulator cannot start: {error}")
        yield emulator


@pytest.fixture(scope="session")
def airflow_metadata_db() -> Iterator[MetadataDatabase]:
    """
    Create a metadata database for Airflow in a temporary ``AIRFLOW_HOME``, unless one
    is configured.

    See ``polysync_airflow.testing.dag_files``.
    """
    from polysync_airflow.testing.dag_files import (
        DatabaseNotReadyError,
        metadata_database,
    )

    with metadata_database() as database:
        try:
            database.prepare()
        except DatabaseNotReadyError as error:
            _fail(str(error))
        yield database


@pytest.fixture
def load_dag(
    request: pytest.FixtureRequest, airflow_metadata_db: MetadataDatabase
) -> Iterator[Callable[..., Any]]:
    """
    Return a function that reads a DAG from its file, ready for ``dag.test()``.

    ``load_dag(file, dag_id=None)``: the file is relative to the root of the tests; the
    id is only needed if the file has several DAGs. See
    ``polysync_airflow.testing.dag_files``.
    """
    from polysync_airflow.testing.dag_files import DagFileError, DagFiles

    with DagFiles(request.config.rootpath, airflow_metadata_db) as files:

        def load(file: str | Path, dag_id: str | None = None) -> Any:
            try:
                return files.load(file, dag_id)
            except DagFileError as error:
                _fail(str(error))

        yield load


def _fail(message: str) -> NoReturn:
    """
    Fail with a message for the author of the test, without a traceback through this
    package.
    """
    raise pytest.fail.Exception(message, pytrace=False) from None


def _settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """
    Return the settings of the marker, and of the ini options where the marker says
    nothing.
    """
    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(MARKER))):
        if marker.args:
            _fail(f"@pytest.mark.{MARKER} has arguments by name only")
        settings |= marker.kwargs
    definitions = settings.get("definitions") or request.config.getini(DEFINITIONS)
    settings["definitions"] = None
    if definitions:
        settings["definitions"] = request.config.rootpath / definitions
    settings.setdefault("connections", request.config.getini(CONNECTIONS))
    return settings
