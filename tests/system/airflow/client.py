"""
A client of Airflow's REST API, with the operations that the tests and the demo need.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final
from uuid import uuid4

import httpx

from tests.system.process.sessions import wait_until

# With SQLite, a request waits while other processes write.
TIMEOUT: Final = 60.0
PARSE_TIMEOUT: Final = 60.0
WRITES: Final = 5
RUN_ENDED: Final = ("success", "failed")


class AirflowError(RuntimeError):
    """
    Raised when Airflow returns an error response, or does not reach the expected state
    in time.
    """


class AirflowClient(ABC):
    """
    Client of an Airflow that requires no authentication, or at which it signs in.

    This class has what the versions of the REST API have in common; each version has a
    class of its own.

    :param url: the address of the API server.
    """

    # The path before those of the resources.
    api: str
    # The path of the status of the components.
    health_path: str
    # What the request for a DAG run contains beside the configuration.
    new_run: ClassVar[dict[str, Any]]
    # What the request to set a task's state contains beside the state.
    marking: ClassVar[dict[str, Any]]
    # The query with which Airflow returns the value of an XCom instead of a text.
    native_xcom: ClassVar[dict[str, Any]]

    def __init__(self, url: str) -> None:
        # The API server is on this machine: never use a proxy.
        self._http = httpx.Client(
            base_url=url,
            timeout=TIMEOUT,
            trust_env=False,
            headers={"Accept": "application/json"},
        )

    def close(self) -> None:
        """Close the HTTP connections."""
        self._http.close()

    def sign_in(self, name: str, password: str) -> None:
        """Sign in, at an Airflow that requires it."""
        token = self._parse(
            self._http.post(
                "/auth/token", json={"username": name, "password": password}
            )
        )
        self._http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def get(self, path: str, **query: Any) -> Any:
        """
        Send a GET request and return the JSON response.

        :param path: the path on the API server.
        :raises AirflowError: if Airflow returns an error response.
        """
        return self._parse(self._http.get(path, params=query))

    def health(self) -> dict[str, str]:
        """Return the status of each component, for example ``healthy``."""
        components = self.get(self.health_path)
        return {
            name: (details or {}).get("status") or "absent"
            for name, details in components.items()
        }

    def wait_for_dag(self, dag_id: str) -> None:
        """
        Wait until Airflow has parsed a DAG.

        :raises AirflowError: if Airflow cannot import a DAG file, or does not parse the
            DAG in time.
        """

        def parsed() -> bool:
            self._check_imports()
            return self._http.get(self._dag(dag_id)).status_code == httpx.codes.OK

        if not wait_until(parsed, timeout=PARSE_TIMEOUT):
            raise AirflowError(
                f"Airflow did not parse the DAG {dag_id!r} in {PARSE_TIMEOUT:.0f} s"
            )

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, so that its runs start."""
        self._write("PATCH", self._dag(dag_id), {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Pause a DAG, so that none of its tasks begins."""
        self._parse(self._http.patch(self._dag(dag_id), json={"is_paused": True}))

    def trigger(
        self,
        dag_id: str,
        *,
        conf: dict[str, Any] | None = None,
        run_id: str | None = None,
    ) -> str:
        """
        Trigger a DAG run.

        :param run_id: its id; by default a new one.
        :return: the run id.
        """
        run_id = run_id or f"manual__{uuid4()}"
        body = {**self.new_run, "conf": conf or {}, "dag_run_id": run_id}
        self._write("POST", f"{self._dag(dag_id)}/dagRuns", body)
        return run_id

    def dag_runs(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's runs."""
        return [
            run["dag_run_id"]
            for run in self.get(f"{self._dag(dag_id)}/dagRuns")["dag_runs"]
        ]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        state: str = self.get(self._run(dag_id, run_id))["state"]
        return state

    def wait_for_run(
        self, dag_id: str, run_id: str, *, timeout: float, interval: float = 1
    ) -> str:
        """
        Wait until a DAG run ends.

        :return: the state of the DAG run.
        :raises AirflowError: if it does not end in time.
        """
        # Not by Airflow's own request for this: Airflow 3.2 sends nothing on it for
        # more than half a minute.
        if not wait_until(
            lambda: self.run_state(dag_id, run_id) in RUN_ENDED,
            timeout=timeout,
            interval=interval,
        ):
            state = self.run_state(dag_id, run_id)
            raise AirflowError(
                f"The DAG run {run_id} is still {state} after {timeout:.0f} s"
            )
        return self.run_state(dag_id, run_id)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """
        Return the state of each task of a DAG run; ``none`` if it has not started.
        """
        return {
            task["task_id"]: task["state"] or "none"
            for task in self.tasks(dag_id, run_id)
        }

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a DAG run; none if it was deleted."""
        response = self._http.get(f"{self._run(dag_id, run_id)}/taskInstances")
        if response.status_code == httpx.codes.NOT_FOUND:
            return []
        return list(self._parse(response)["task_instances"])

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, timeout: float
    ) -> None:
        """
        Wait until a task is in a given state.

        :raises AirflowError: if it does not reach the state in time.
        """
        if not wait_until(
            lambda: self.task_states(dag_id, run_id).get(task_id) == state,
            timeout=timeout,
            interval=0.5,
        ):
            states = self.task_states(dag_id, run_id)
            raise AirflowError(
                f"The task {task_id} is not {state} after {timeout:.0f} s: {states}"
            )

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as a user does in the UI."""
        body = {**self.marking, "new_state": state}
        self._parse(self._http.patch(self._task(dag_id, run_id, task_id), json=body))

    def clear_task(
        self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = False
    ) -> None:
        """
        Clear tasks in any state, as a user does in the UI.

        :param downstream: whether those that follow are cleared, too.
        """
        body = {
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
            "dag_run_id": run_id,
            "task_ids": task_ids,
            "include_downstream": downstream,
        }
        self._parse(
            self._http.post(f"{self._dag(dag_id)}/clearTaskInstances", json=body)
        )

    def clear_run(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a DAG run, as a user does in the UI."""
        body = {"dry_run": False}
        self._parse(self._http.post(f"{self._run(dag_id, run_id)}/clear", json=body))

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Set the state of a DAG run, as a user does in the UI."""
        self._parse(self._http.patch(self._run(dag_id, run_id), json={"state": state}))

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a DAG run, as a user does in the UI."""
        self._parse(self._http.delete(self._run(dag_id, run_id)))

    def delete_dag(self, dag_id: str) -> None:
        """
        Delete a DAG with its runs, as a user does in the UI. Airflow adds it again when
        it parses the file.
        """
        self._parse(self._http.delete(self._dag(dag_id)))

    def description(self, dag_id: str) -> str | None:
        """Return the description of a DAG as it was parsed last."""
        text: str | None = self.get(self._dag(dag_id))["description"]
        return text

    def create_connection(self, connection_id: str, connection: dict[str, Any]) -> None:
        """
        Store a connection, as a user does in the UI.

        :param connection: its fields, in Airflow's JSON format.
        """
        body = {
            "connection_id": connection_id,
            **connection,
            "extra": json.dumps(connection.get("extra") or {}),
        }
        self._parse(self._http.post(f"{self.api}/connections", json=body))

    def delete_connection(self, connection_id: str) -> None:
        """Delete a connection, as a user does in the UI."""
        self._parse(self._http.delete(f"{self.api}/connections/{connection_id}"))

    @abstractmethod
    def create_asset_event(self, uri: str, extra: dict[str, Any]) -> None:
        """Create an event of an asset, as others do by the REST API."""

    @abstractmethod
    def jobs(self, job_type: str) -> set[int]:
        """
        Return the job ids of the running components of a type, for example
        ``TriggererJob``.
        """

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return a value that a task pushed to XCom; None if there is none."""
        path = f"{self._task(dag_id, run_id, task_id)}/xcomEntries/{key}"
        response = self._http.get(path, params=self.native_xcom)
        return (
            None
            if response.status_code == httpx.codes.NOT_FOUND
            else self._parse(response)["value"]
        )

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the URL of each extra link of a task."""
        return self._links(self.get(f"{self._task(dag_id, run_id, task_id)}/links"))

    def log(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1
    ) -> list[str]:
        """
        Return the messages of a task's log; the message of an error includes its
        exceptions.
        """
        return self._messages(
            self.log_content(dag_id, run_id, task_id, try_number=try_number)
        )

    def log_content(
        self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1
    ) -> Any:
        """Return a task's log as the REST API returns it."""
        path = f"{self._task(dag_id, run_id, task_id)}/logs/{try_number}"
        return self.get(path, full_content=True)["content"]

    @abstractmethod
    def connection_form(self, connection_type: str) -> dict[str, Any]:
        """
        Return the definition of a connection type's form, as the UI receives it.

        :raises AirflowError: if Airflow has no such connection type, or no such
            definitions.
        """

    def test_connection(self, connection_id: str) -> dict[str, Any]:
        """
        Test a stored connection as the UI's Test button does; the UI does not have the
        connection's secrets.
        """
        connection = self.get(f"{self.api}/connections/{connection_id}")
        return dict(
            self._parse(
                self._http.post(f"{self.api}/connections/test", json=connection)
            )
        )

    @abstractmethod
    def _links(self, response: Any) -> dict[str, str | None]:
        """Return the extra links in a response."""

    @abstractmethod
    def _messages(self, content: Any) -> list[str]:
        """Return the messages in the content of a log."""

    def _dag(self, dag_id: str) -> str:
        return f"{self.api}/dags/{dag_id}"

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"{self._dag(dag_id)}/dagRuns/{run_id}"

    def _task(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"{self._run(dag_id, run_id)}/taskInstances/{task_id}"

    def _check_imports(self) -> None:
        errors = self.get(f"{self.api}/importErrors")["import_errors"]
        if errors:
            details = "\n".join(
                f"{error['filename']}:\n{error['stack_trace']}" for error in errors
            )
            raise AirflowError(f"Airflow cannot import a DAG file.\n{details}")

    def _write(self, method: str, path: str, body: dict[str, Any]) -> None:
        for _ in range(WRITES):
            response = self._http.request(method, path, json=body)
            # With SQLite, Airflow answers so while another process writes, and has
            # changed nothing.
            if response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                break
            time.sleep(1)
        self._parse(response)

    @staticmethod
    def _parse(response: httpx.Response) -> Any:
        if response.is_error:
            request = response.request
            raise AirflowError(
                f"{request.method} {request.url} failed with HTTP status {response.status_code}: {response.text}"
            )
        return response.json() if response.content else None
