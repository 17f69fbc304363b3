"""
An Airflow whose API server runs alone, and whose database has what tasks of the tests
would have stored.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.fernet import Fernet

from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.records.keys import variable_key
from polysync_airflow.records.serialization import from_variable, to_variable
from tests.browser.arranged import XComs
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.unit.execution.lifecycle.builders import stored

DAG: Final = "churn_retraining"
DAGS: Final = Path(__file__).parent / "dags"
NOT_MAPPED: Final = -1
_FERNET_KEY: Final = "AIRFLOW__CORE__FERNET_KEY"
PASSWORDS: Final = {"ann": "ann-password", "vic": "vic-password"}


def login_settings(home: Path) -> dict[str, str]:
    """
    Return the settings of an Airflow in which ann is an administrator, and vic a
    viewer.
    """
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "ann:admin,vic:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }


class ApiServer(PrivateAirflow):
    """
    A private Airflow without scheduler, triggerer and DAG processor: nothing but the
    tests changes its database.

    :param home: an empty folder.
    :param settings: further environment variables.
    :param more_dags: folders with DAGs, besides those of the tests.
    :param database: the SQLAlchemy URL of an empty database; by default SQLite in
        ``home``.
    """

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str] | None = None,
        *,
        more_dags: Sequence[Path] = (),
        database: str | None = None,
    ) -> None:
        self.database = database or f"sqlite:///{home}/airflow.db"
        # The tests sign records with their own key.
        key = {
            _FERNET_KEY: os.environ.setdefault(
                _FERNET_KEY, Fernet.generate_key().decode()
            )
        }
        super().__init__(
            home,
            dag_folders=[DAGS, *more_dags],
            connections={},
            settings={**key, **(settings or {})},
            components=["api-server"],
            database=self.database,
        )

    def healthy(self) -> bool:
        """
        Return whether the API server reaches its database; the other components do not
        run.
        """
        return self.health().get("metadatabase") == "healthy"


@dataclass(frozen=True)
class Task:
    """
    A task instance.

    :param run_id: the id of its DAG run.
    :param task_id: the id of its task.
    :param map_index: its map index; -1 if the task is not mapped.
    :param dag_id: its DAG.
    """

    run_id: str
    task_id: str = "train"
    map_index: int = NOT_MAPPED
    dag_id: str = DAG

    @property
    def page(self) -> str:
        """The path of its page in the UI."""
        mapped = "" if self.map_index == NOT_MAPPED else f"/mapped/{self.map_index}"
        return f"dags/{self.dag_id}/runs/{self.run_id}/tasks/{self.task_id}{mapped}"

    @property
    def key(self) -> TaskKey:
        """What identifies it."""
        return TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def api(self) -> str:
        """Its path in the REST API."""
        return f"api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}"


class Site:
    """
    Writes task instances and XComs.

    :param airflow: an Airflow of which only the API server runs.
    :param base_path: the path in its base URL.
    :param login: a user and a password of an administrator, if Airflow requires them.
    """

    def __init__(
        self,
        airflow: ApiServer,
        base_path: str = "/",
        login: tuple[str, str] | None = None,
    ) -> None:
        self.url = f"{airflow.url}{base_path}"
        self.database = airflow.database
        self._file = airflow.home / "airflow.db"
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)
        if login:
            token = self._post(
                "auth/token", {"username": login[0], "password": login[1]}
            )["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        airflow.command("dags", "reserialize")

    def close(self) -> None:
        """Close the HTTP connections."""
        self._http.close()

    def new_task(
        self,
        state: str | None,
        task_id: str = "train",
        *,
        map_index: int = NOT_MAPPED,
        try_number: int = 1,
    ) -> Task:
        """
        Create a DAG run, and put one of its task instances into a state.

        :param state: the state; None for a task that has not been scheduled.
        :param task_id: the task.
        :param map_index: the map index.
        :param try_number: which try it is.
        """
        task = Task(self.trigger(DAG), task_id, map_index)
        self.set_state(task, state, try_number)
        return task

    def trigger(self, dag_id: str, run_id: str | None = None) -> str:
        """Create a DAG run, and return its id, which Airflow chooses by default."""
        body = {"logical_date": None, **({"dag_run_id": run_id} if run_id else {})}
        created: str = self._post(f"api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"]
        return created

    def new_run(
        self, dag_id: str, state: str, tasks: Mapping[str, str | None], seconds: float
    ) -> str:
        """
        Create a DAG run in a state, and put its task instances into states; return its
        id.

        :param tasks: the states by task; None for a task that has not been scheduled.
        :param seconds: how long the run takes, or has been running.
        """
        run_id = self.trigger(dag_id)
        for task_id, task_state in tasks.items():
            self.set_state(Task(run_id, task_id, dag_id=dag_id), task_state)
        now = datetime.now(UTC)
        began, ended = (
            now - timedelta(seconds=seconds),
            None if state == "running" else now,
        )
        values = (
            state,
            *(time and time.isoformat(sep=" ") for time in (began, ended)),
            dag_id,
            run_id,
        )
        with closing(sqlite3.connect(self._file, timeout=30)) as database, database:
            where = "WHERE dag_id = ? AND run_id = ?"
            database.execute(
                f"UPDATE dag_run SET state = ?, start_date = ?, end_date = ? {where}",
                values,
            )
        return run_id

    def set_state(self, task: Task, state: str | None, try_number: int = 1) -> None:
        """Put a task instance into a state, as the scheduler and the task would."""
        began = datetime.now(UTC).isoformat(sep=" ") if state else None
        ended = began if state in ("success", "failed") else None
        with closing(sqlite3.connect(self._file, timeout=30)) as database, database:
            changed = database.execute(
                "UPDATE task_instance SET state = ?, try_number = ?,"
                " start_date = COALESCE(?, start_date), end_date = ?"
                f" WHERE dag_id = ? AND run_id = ? AND task_id = ? AND {INSTALLED.map_index} = ?",
                (
                    state,
                    try_number,
                    began,
                    ended,
                    task.dag_id,
                    task.run_id,
                    task.task_id,
                    task.map_index,
                ),
            ).rowcount
        assert changed == 1, f"{task} does not exist"

    def set_columns(self, table: str, task: Task, **values: Any) -> None:
        """Set columns of the rows of a task, which Airflow itself would set."""
        columns = ", ".join(f"{name} = ?" for name in values)
        with closing(sqlite3.connect(self._file, timeout=30)) as database, database:
            changed = database.execute(
                f"UPDATE {table} SET {columns}"
                " WHERE dag_id = ? AND run_id = ? AND task_id = ?",
                (*values.values(), task.dag_id, task.run_id, task.task_id),
            ).rowcount
        assert changed > 0, f"{task} has no row in {table}"

    def pause(self, dag_id: str, *, is_paused: bool) -> None:
        """Pause a DAG, or unpause it."""
        self._http.patch(
            f"api/v2/dags/{dag_id}", json={"is_paused": is_paused}
        ).raise_for_status()

    def publish(self, task: Task, xcoms: XComs) -> None:
        """Write the XComs of a task, as its operator does."""
        for key, value in xcoms.by_key().items():
            self.write_xcom(task, key, value)

    def write_xcom(self, task: Task, key: str, value: Any) -> None:
        """Create or replace one XCom."""
        path = f"{task.api}/xcomEntries"
        body = {"key": key, "value": value, "map_index": task.map_index}
        response = self._http.post(path, json=body)
        if response.status_code == httpx.codes.CONFLICT:
            response = self._http.patch(
                f"{path}/{key}", json={"value": value, "map_index": task.map_index}
            )
        response.raise_for_status()

    def state_of(self, task: Task) -> str | None:
        """Return the state of a task instance."""
        path = (
            task.api if task.map_index == NOT_MAPPED else f"{task.api}/{task.map_index}"
        )
        state: str | None = self._http.get(path).raise_for_status().json()["state"]
        return state

    def put_record(self, task: Task, **changes: Any) -> None:
        """Store the record of a task's execution, as its operator does."""
        value = to_variable(stored(**changes), task.key)
        self._post("api/v2/variables", {"key": variable_key(task.key), "value": value})

    def record_of(self, task: Task) -> ExecutionRecord:
        """Return the record of a task's execution."""
        # The REST API masks the token in it.
        with closing(sqlite3.connect(self._file, timeout=30)) as database:
            query = database.execute(
                "SELECT val FROM variable WHERE key = ?", [variable_key(task.key)]
            )
            (value,) = query.fetchone()
        text = Fernet(os.environ[_FERNET_KEY]).decrypt(value).decode()
        return from_variable(text, task.key)

    def status_of(self, path: str) -> int:
        """Return the HTTP status of a request without credentials."""
        return httpx.get(f"{self.url}{path}", trust_env=False).status_code

    def last_conf(self, dag_id: str) -> Any:
        """Return the values of the form of the newest run of a DAG."""
        path = f"api/v2/dags/{dag_id}/dagRuns?order_by=-id&limit=1"
        response = self._http.get(path)
        (run,) = response.raise_for_status().json()["dag_runs"]
        return run["conf"]

    def bundle_path(self) -> str:
        """
        Return the URL of the module of the tab and the page, as the UI receives it.
        """
        plugins = self._http.get("api/v2/plugins").raise_for_status().json()["plugins"]
        (url,) = {
            app["bundle_url"] for plugin in plugins for app in plugin["react_apps"]
        }
        return str(url)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()
