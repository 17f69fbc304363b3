"""Reads DAG files for ``dag.test()``, and removes what ``dag.test()`` leaves behind in the process."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.testing.metadata_db import MetadataDatabase

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
        self._root, self._database = root, database
        self._patches = pytest.MonkeyPatch()
        self._task_variables: dict[str, str] = {}

    def __enter__(self) -> DagFiles:
        self._task_variables = {name: os.environ[name] for name in _task_variables()}
        self._patches.setattr(sys, "path", list(sys.path))
        if CAPABILITIES.task_sdk:
            # Airflow leaves its channel to the supervisor behind, and would ask for later connections there.
            task_runner = import_module("airflow.sdk.execution_time.task_runner")
            self._patches.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
            self._patches.delattr(task_runner, "SUPERVISOR_COMMS")
            # Airflow 3.2 starts a new API server for each task, which takes two seconds.
            supervisor = import_module("airflow.sdk.execution_time.supervisor")
            self._patches.setattr(supervisor, "in_process_api_server", lambda: self._database.task_api)
        else:
            # Airflow 2 keeps a session for whatever has rendered a mapped argument outside of a task, and
            # then refuses to run a mapped task in the same process.
            name = "airflow.utils.task_instance_session.__current_task_instance_session"
            self._patches.setattr(name, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.undo()
        # Airflow sets these for each task, and does not remove them.
        for name in _task_variables():
            del os.environ[name]
        os.environ.update(self._task_variables)

    def load(self, file: str | Path, dag_id: str | None = None) -> Any:
        """
        Read a DAG, and store it in a temporary database as the DAG processor would.

        :param dag_id: the DAG; None for the only one in the file.
        :raises DagFileError: the file does not exist or cannot be imported, or has no such DAG.
        """
        path = (self._root / file).resolve()
        if not path.is_file():
            raise DagFileError(f"{path} is not a file; give the path of a DAG file")
        bag = _parse(path)
        if bag.import_errors:
            raise DagFileError(f"{path} cannot be imported:\n{''.join(bag.import_errors.values())}")
        if dag_id is None and len(bag.dags) == 1:
            (dag_id,) = bag.dags
        if dag_id not in bag.dags:
            found = ", ".join(sorted(bag.dags)) or "none"
            wanted = "Give dag_id" if dag_id is None else f"There is no DAG {dag_id!r}"
            raise DagFileError(f"{wanted}; the DAGs of {path} are: {found}")
        if self._database.home:
            _store(bag)
        return bag.dags[dag_id]


def _task_variables() -> list[str]:
    return [name for name in os.environ if name.startswith("AIRFLOW_CTX_")]


def _parse(path: Path) -> Any:
    # As Airflow does, so that a DAG file can import the modules beside it.
    sys.path.append(str(path.parent))
    if not CAPABILITIES.task_sdk:
        return import_module("airflow.models.dagbag").DagBag(path, include_examples=False, safe_mode=False)
    dagbag = import_module("airflow.dag_processing.dagbag")
    return dagbag.BundleDagBag(dag_folder=path, bundle_path=path.parent, bundle_name=_BUNDLE, safe_mode=False)


def _store(bag: Any) -> None:
    # The DAG folder of a temporary database is empty, so that Airflow does not parse files beside this one.
    if not CAPABILITIES.task_sdk:
        for dag in bag.dags.values():
            dag.sync_to_db()
        return
    import_module("airflow.dag_processing.bundles.manager").DagBundlesManager().sync_bundles_to_db()
    import_module("airflow.dag_processing.dagbag").sync_bag_to_db(bag, _BUNDLE, None)
