"""A client of Airflow's REST API, with the operations that the tests and the demo need."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import httpx

from tests.system.process.sessions import wait_until

TIMEOUT: Final = 30.0
PARSE_TIMEOUT: Final = 60.0


class AirflowError(RuntimeError):
    """Raised when Airflow returns an error response, or does not reach the expected state in time."""


class AirflowClient:
    """
    Client of an Airflow that requires no authentication.

    :param url: the address of the API server.
    """

    def __init__(self, url: str) -> None:
        # The API server is on this machine: never use a proxy.
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Close the HTTP connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """
        Send a GET request and return the JSON response.

        :param path: the path on the API server.
        :raises AirflowError: if Airflow returns an error response.
        """
        return self._parse(self._http.get(path, params=query))

    def health(self) -> dict[str, str]:
        """Return the status of each component, for example ``healthy``."""
        components = self.get("/api/v2/monitor/health")
        return {name: (details or {}).get("status") or "absent" for name, details in components.items()}

    def wait_for_dag(self, dag_id: str) -> None:
        """
        Wait until Airflow has parsed a DAG.

        :raises AirflowError: if Airflow cannot import a DAG file, or does not parse the DAG in time.
        """

        def parsed() -> bool:
            self._check_imports()
            return self._http.get(f"/api/v2/dags/{dag_id}").status_code == httpx.codes.OK

        if not wait_until(parsed, timeout=PARSE_TIMEOUT):
            raise AirflowError(f"Airflow did not parse the DAG {dag_id!r} in {PARSE_TIMEOUT:.0f} s")

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, so that its runs start."""
        self._parse(self._http.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}))

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None = None) -> str:
        """
        Trigger a DAG run.

        :return: the run id.
        """
        body = {"logical_date": None, "conf": conf or {}}
        run = self._parse(self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))
        run_id: str = run["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        state: str = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float, interval: float = 1) -> str:
        """
        Wait until a DAG run ends.

        :return: the state of the DAG run.
        :raises AirflowError: if it does not end in time.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/wait"
        deadline = time.monotonic() + timeout
        state = "unknown"
        # While the run lasts, Airflow sends one line with a JSON document per interval.
        with self._http.stream("GET", path, params={"interval": interval}) as response:
            for line in response.iter_lines():
                state = json.loads(line)["state"]
                if time.monotonic() > deadline:
                    raise AirflowError(f"The DAG run {run_id} is still {state} after {timeout:.0f} s")
        return state

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task of a DAG run; ``none`` if it has not started."""
        return {task["task_id"]: task["state"] or "none" for task in self.tasks(dag_id, run_id)}

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a DAG run."""
        instances = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return list(instances)

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, state: str, *, timeout: float) -> None:
        """
        Wait until a task is in a given state.

        :raises AirflowError: if it does not reach the state in time.
        """
        if not wait_until(
            lambda: self.task_states(dag_id, run_id).get(task_id) == state, timeout=timeout, interval=0.5
        ):
            states = self.task_states(dag_id, run_id)
            raise AirflowError(f"The task {task_id} is not {state} after {timeout:.0f} s: {states}")

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as a user does in the UI."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._parse(self._http.patch(path, json={"new_state": state}))

    def clear_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task in any state, as a user does in the UI."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._parse(self._http.post(f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body))

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Set the state of a DAG run, as a user does in the UI."""
        self._parse(self._http.patch(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": state}))

    def jobs(self, job_type: str) -> set[int]:
        """Return the job ids of the running components of a type, for example ``TriggererJob``."""
        jobs = self.get("/api/v2/jobs", job_type=job_type, is_alive=True)["jobs"]
        return {job["id"] for job in jobs}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return a value that a task pushed to XCom; None if there is none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        response = self._http.get(path, params={"deserialize": True})
        return None if response.status_code == httpx.codes.NOT_FOUND else self._parse(response)["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the URL of each extra link of a task."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.get(path)["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1) -> list[str]:
        """Return the messages of a task's log; the message of an error includes its exceptions."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.get(path, full_content=True)["content"]
        return [_message(line) if isinstance(line, dict) else str(line) for line in content]

    def connection_form(self, connection_type: str) -> dict[str, Any]:
        """Return the definition of a connection type's form, as the UI receives it."""
        for form in self.get("/ui/connections/hook_meta"):
            if form["connection_type"] == connection_type:
                return dict(form)
        raise AirflowError(f"Airflow has no connection type {connection_type!r}")

    def test_connection(self, connection_id: str) -> dict[str, Any]:
        """Test a stored connection as the UI's Test button does; the UI does not have the connection's secrets."""
        connection = self.get(f"/api/v2/connections/{connection_id}")
        return dict(self._parse(self._http.post("/api/v2/connections/test", json=connection)))

    def _check_imports(self) -> None:
        errors = self.get("/api/v2/importErrors")["import_errors"]
        if errors:
            details = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
            raise AirflowError(f"Airflow cannot import a DAG file.\n{details}")

    @staticmethod
    def _parse(response: httpx.Response) -> Any:
        if response.is_error:
            request = response.request
            raise AirflowError(
                f"{request.method} {request.url} failed with HTTP status {response.status_code}: {response.text}"
            )
        return response.json()


def _message(line: dict[str, Any]) -> str:
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return "\n".join([line["event"], *errors])
