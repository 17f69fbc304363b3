"""
Airflow's metadata database for ``dag.test()``.

An author who has configured Airflow, by one of the variables in ``CONFIGURING``, keeps that database: nothing
here creates or changes its tables. Everybody else gets a temporary ``AIRFLOW_HOME`` with SQLite for the
session, also if ``~/airflow`` exists. It is removed at the end.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

# The variables by which an author chooses a database. Airflow documents them here:
# https://airflow.apache.org/docs/apache-airflow/stable/howto/set-config.html
_OPTION: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
CONFIGURING: Final = ("AIRFLOW_HOME", "AIRFLOW_CONFIG", _OPTION, f"{_OPTION}_CMD", f"{_OPTION}_SECRET")
_FERNET_KEY: Final = "AIRFLOW__CORE__FERNET_KEY"
# The first task of a process imports these.
_IMPORTED_BY_TASKS: Final = (
    "polysync_airflow.hooks",
    "polysync_airflow.operators",
    "polysync_airflow.triggers",
)


class DatabaseNotReadyError(Exception):
    """Raised when the author's own database cannot be used."""


class MetadataDatabase:
    """
    The metadata database of a session.

    :param home: the temporary ``AIRFLOW_HOME``; None for the database that the author has configured.
    :param task_api: Airflow's API server for tasks, which runs in this process; None in Airflow 2.
    """

    def __init__(self, home: Path | None) -> None:
        self.home = home
        self.task_api: Any = None

    def prepare(self) -> None:
        """
        Create the tables of a temporary database, or check those of another one; start the API server.

        What takes seconds and is done once in a process is done here, so that no test is charged with it.

        :raises DatabaseNotReadyError: the author's own database has no tables, or those of another version of
            Airflow.
        """
        # Those of the packages that Airflow imports are nothing that an author could change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._prepare()

    def _prepare(self) -> None:
        from airflow.utils import db

        if self.home is None:
            try:
                db.check_migrations(timeout=0)  # type: ignore[no-untyped-call]  # Airflow's has no annotations
            except TimeoutError as error:
                given = ", ".join(name for name in CONFIGURING if name in os.environ)
                raise DatabaseNotReadyError(
                    f"The database that {given} configures has no tables, or those of another version of "
                    "Airflow. Run `airflow db migrate`, or unset the variables to use a temporary database."
                ) from error
        else:
            db.initdb()
        for name in _IMPORTED_BY_TASKS:
            import_module(name)
        self.task_api = _start_task_api()


def _start_task_api() -> Any:
    from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

    if not CAPABILITIES.task_sdk:
        return None
    api = import_module("airflow.sdk.execution_time.supervisor").in_process_api_server()
    # It generates its routes at the first request. Airflow's own client sends it, since the transport is of
    # httpx, or of httpx2 from Airflow 3.4 on.
    client_class = import_module("airflow.sdk.api.client").Client
    with client_class(base_url="http://in-process.invalid", token="", transport=api.transport) as client:
        client.get("/health")
    return api


@contextmanager
def metadata_database() -> Iterator[MetadataDatabase]:
    """Set a temporary ``AIRFLOW_HOME`` for the ``with`` block, unless the author has configured Airflow."""
    if any(name in os.environ for name in CONFIGURING):
        yield MetadataDatabase(None)
        return
    with tempfile.TemporaryDirectory(prefix="polysync-airflow-", ignore_cleanup_errors=True) as folder:
        with pytest.MonkeyPatch.context() as patches:
            patches.setenv("AIRFLOW_HOME", folder)
            patches.setenv(_OPTION, f"sqlite:///{folder}/airflow.db")
            (Path(folder) / "dags").mkdir()
            patches.setenv("AIRFLOW__CORE__DAGS_FOLDER", f"{folder}/dags")
            patches.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            patches.setenv("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False")
            if not any(name.startswith(_FERNET_KEY) for name in os.environ):
                # Without a key, each process warns that nothing is encrypted and that records are not signed.
                patches.setenv(_FERNET_KEY, urlsafe_b64encode(os.urandom(32)).decode())
            # A conftest.py or a test module may have imported Airflow, which reads the variables only once.
            imported = "airflow.settings" in sys.modules
            if imported:
                _connect()
            yield MetadataDatabase(Path(folder))
        if imported:
            _connect()
        elif "airflow.settings" in sys.modules:
            import_module("airflow.settings").dispose_orm()


def _connect() -> None:
    """Let Airflow read the address of its database again."""
    settings = import_module("airflow.settings")
    if settings.engine is not None:
        settings.dispose_orm()
    settings.configure_vars()
    settings.configure_orm()
