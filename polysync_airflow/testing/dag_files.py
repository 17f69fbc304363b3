"""
Reads DAG files for ``dag.test()``, and removes what it leaves behind in the process.

An author who has configured Airflow, by one of the variables in ``CONFIGURING``, keeps
that database: nothing here creates or changes its tables. Everybody else gets a
temporary ``AIRFLOW_HOME`` with SQLite for the session, also if ``~/airflow`` exists. It
is removed at the end.
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

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

# The variables by which an author chooses a database. Airflow documents them here:
# https://airflow.apache.org/docs/apache-airflow/stable/howto/set-config.html
_OPTION: Final = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
CONFIGURING: Final = (
    "AIRFLOW_HOME",
    "AIRFLOW_CONFIG",
    _OPTION,
    f"{_OPTION}_CMD",
    f"{_OPTION}_SECRET",
)
_FERNET_KEY: Final = "AIRFLOW__CORE__FERNET_KEY"


class DatabaseNotReadyError(Exception):
    """Raised when the author's own database cannot be used."""


class MetadataDatabase:
    """
    The metadata database of a session.

    :param home: the temporary ``AIRFLOW_HOME``; None for the database that the author
        has configured.
    :param task_api: Airflow's API server for tasks, which runs in this process; None in
        Airflow 2.
    """

    def __init__(self, home: Path | None) -> None:
        self.home = home
        self.task_api: Any = None

    def prepare(self) -> None:
        """
        Create the tables of a temporary database, or check those of another one; start
        the API server.

        What takes seconds and is done once in a process is done here, so that no test
        is charged with it.

        :raises DatabaseNotReadyError: the author's own database has no tables, or those
            of another version of Airflow.
        """
        # The packages that Airflow imports warn of nothing that an author could change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from airflow.utils import db

            if self.home is None:
                try:
                    db.check_migrations(timeout=0)  # type: ignore[no-untyped-call]
                except TimeoutError as error:
                    names = [name for name in CONFIGURING if name in os.environ]
                    raise DatabaseNotReadyError(
                        f"The database that {', '.join(names)} configures has no"
                        " tables, or those of another version of Airflow. Run `airflow"
                        " db migrate`, or unset the variables to use a temporary"
                        " database."
                    ) from error
            else:
                with pytest.MonkeyPatch.context() as patches:
                    # The migrations of Airflow's FAB provider put "." in front.
                    patches.setattr(sys, "path", list(sys.path))
                    db.initdb()
            # The first task of a process imports these.
            from polysync_airflow import hooks, operators, triggers  # noqa: F401

            self.task_api = _start_task_api()


def _start_task_api() -> Any:
    if not CAPABILITIES.task_sdk:
        return None
    api = import_module("airflow.sdk.execution_time.supervisor").in_process_api_server()
    # It generates its routes at the first request. Airflow's own client sends it, since
    # the transport is of httpx, or of httpx2 from Airflow 3.4 on.
    url = "http://in-process.invalid"
    client_class = import_module("airflow.sdk.api.client").Client
    with client_class(base_url=url, token="", transport=api.transport) as client:
        client.get("/health")
    return api


@contextmanager
def metadata_database() -> Iterator[MetadataDatabase]:
    """
    Set a temporary ``AIRFLOW_HOME`` for the ``with`` block, unless the author has
    configured Airflow.
    """
    if any(name in os.environ for name in CONFIGURING):
        yield MetadataDatabase(None)
        return
    with tempfile.TemporaryDirectory(
        prefix="polysync-airflow-", ignore_cleanup_errors=True
    ) as folder:
        with pytest.MonkeyPatch.context() as patches:
            patches.setenv("AIRFLOW_HOME", folder)
            patches.setenv(_OPTION, f"sqlite:///{folder}/airflow.db")
            (Path(folder) / "dags").mkdir()
            patches.setenv("AIRFLOW__CORE__DAGS_FOLDER", f"{folder}/dags")
            patches.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            patches.setenv("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False")
            if not any(name.startswith(_FERNET_KEY) for name in os.environ):
                # Without a key, each process warns that nothing is encrypted and that
                # records are not signed.
                patches.setenv(_FERNET_KEY, urlsafe_b64encode(os.urandom(32)).decode())
            # A conftest.py or a test module may have imported Airflow, which reads the
            # variables only once.
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


# The name of Airflow's own bundle for the folder in [core] dags_folder.
_BUNDLE: Final = "dags-folder"


class DagFileError(Exception):
    """Raised when a DAG cannot be read; the message names the file."""


class DagFiles:
    """
    Context manager that reads DAGs for one test. At the end, the process is as before.

    :param root: the folder from which relative paths start.
    """

    def __init__(self, root: Path, database: MetadataDatabase) -> None:
        self._root = root
        self._database = database
        self._patches = pytest.MonkeyPatch()
        self._task_variables: dict[str, str] = {}

    def __enter__(self) -> DagFiles:
        self._task_variables = {name: os.environ[name] for name in _task_variables()}
        self._patches.setattr(sys, "path", list(sys.path))
        if CAPABILITIES.task_sdk:
            # Airflow leaves its channel to the supervisor behind, and would ask for
            # later connections there.
            task_runner = import_module("airflow.sdk.execution_time.task_runner")
            self._patches.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
            self._patches.delattr(task_runner, "SUPERVISOR_COMMS")
            # Airflow 3.2 starts a new API server for each task, which takes two
            # seconds.
            supervisor = import_module("airflow.sdk.execution_time.supervisor")
            self._patches.setattr(
                supervisor, "in_process_api_server", lambda: self._database.task_api
            )
        else:
            # Airflow 2 keeps a session for whatever has rendered a mapped argument
            # outside of a task, and then refuses to run a mapped task in the same
            # process.
            name = "airflow.utils.task_instance_session.__current_task_instance_session"
            self._patches.setattr(name, None)
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.undo()
        # Airflow does not remove those of this test's tasks.
        for name in _task_variables():
            del os.environ[name]
        os.environ.update(self._task_variables)

    def load(self, file: str | Path, dag_id: str | None = None) -> Any:
        """
        Read a DAG, and store it in a temporary database as the DAG processor would.

        :param dag_id: the DAG; None for the only one in the file.
        :raises DagFileError: the file does not exist or cannot be imported, or has no
            such DAG.
        """
        path = (self._root / file).resolve()
        if not path.is_file():
            raise DagFileError(f"{path} is not a file; give the path of a DAG file")
        bag = _parse(path)
        if bag.import_errors:
            raise DagFileError(
                f"{path} cannot be imported:\n{''.join(bag.import_errors.values())}"
            )
        if dag_id is None and len(bag.dags) == 1:
            (dag_id,) = bag.dags
        if dag_id not in bag.dags:
            names = ", ".join(sorted(bag.dags)) or "none"
            raise DagFileError(f"dag_id is {dag_id!r}; the DAGs of {path} are: {names}")
        if self._database.home:
            _store(bag)
        return bag.dags[dag_id]


def _task_variables() -> list[str]:
    """Return the environment variables that Airflow sets for a task."""
    return [name for name in os.environ if name.startswith("AIRFLOW_CTX_")]


def _parse(path: Path) -> Any:
    # As Airflow does, so that a DAG file can import the modules beside it.
    sys.path.append(str(path.parent))
    if not CAPABILITIES.task_sdk:
        return import_module("airflow.models.dagbag").DagBag(
            path, include_examples=False, safe_mode=False
        )
    dagbag = import_module("airflow.dag_processing.dagbag")
    return dagbag.BundleDagBag(
        dag_folder=path, bundle_path=path.parent, bundle_name=_BUNDLE, safe_mode=False
    )


def _store(bag: Any) -> None:
    # The DAG folder of a temporary database is empty, so that Airflow does not parse
    # files beside this one.
    if not CAPABILITIES.task_sdk:
        for dag in bag.dags.values():
            dag.sync_to_db()
        return
    manager = import_module("airflow.dag_processing.bundles.manager")
    manager.DagBundlesManager().sync_bundles_to_db()
    import_module("airflow.dag_processing.dagbag").sync_bag_to_db(bag, _BUNDLE, None)
