"""Owns our conversation with Airflow's REST API: one method per question."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import httpx

from tests.system.processes import wait_until

TIMEOUT: Final = 30.0
PARSE_TIMEOUT: Final = 60.0


class AirflowError(RuntimeError):
    """Airflow refused, or something did not come to be in time."""


class AirflowClient:
    """
    Asks the API of an Airflow that lets everybody in.

    :param url: where it is.
    """

    def __init__(self, url: str) -> None:
        # Never through a proxy: it is on this machine.
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """
        Ask for a JSON document.

        :param path: below the API server's address.
        :raises AirflowError: if the answer is an error.
        """
        return self._answer(self._http.get(path, params=query))

    def health(self) -> dict[str, str]:
        """Tell each component's status, ``healthy`` if it is."""
        components = self.get("/api/v2/monitor/health")
        return {name: (about or {}).get("status") or "absent" for name, about in components.items()}

    def wait_for_dag(self, dag_id: str) -> None:
        """
        Wait until a DAG is parsed.

        :raises AirflowError: if its folder has a file that cannot be, or it takes too long.
        """

        def parsed() -> bool:
            self._check_imports()
            return self._http.get(f"/api/v2/dags/{dag_id}").status_code == httpx.codes.OK

        if not wait_until(parsed, timeout=PARSE_TIMEOUT):
            raise AirflowError(f"Airflow has not parsed the DAG {dag_id!r} after {PARSE_TIMEOUT:.0f} s")

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs begin."""
        self._answer(self._http.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}))

    def trigger(self, dag_id: str, *, conf: dict[str, Any] | None = None) -> str:
        """
        Begin a run of a DAG.

        :returns: its run id.
        """
        body = {"logical_date": None, "conf": conf or {}}
        run = self._answer(self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))
        run_id: str = run["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Tell a run's state."""
        state: str = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float, interval: float = 1) -> str:
        """
        Wait until a run has ended.

        :returns: its state.
        :raises AirflowError: if it takes too long.
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/wait"
        deadline = time.monotonic() + timeout
        state = "unknown"
        # One JSON document a line, for as long as the run lasts.
        with self._http.stream("GET", path, params={"interval": interval}) as answer:
            for line in answer.iter_lines():
                state = json.loads(line)["state"]
                if time.monotonic() > deadline:
                    raise AirflowError(f"The run {run_id} is still {state} after {timeout:.0f} s")
        return state

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Tell the state of each task of a run, ``none`` if it has not begun."""
        return {task["task_id"]: task["state"] or "none" for task in self.tasks(dag_id, run_id)}

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """List the task instances of a run."""
        found = self.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return list(found)

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, state: str, *, timeout: float) -> None:
        """
        Wait until a task is in a state.

        :raises AirflowError: if it takes too long.
        """
        if not wait_until(
            lambda: self.task_states(dag_id, run_id).get(task_id) == state, timeout=timeout, interval=0.5
        ):
            now = self.task_states(dag_id, run_id)
            raise AirflowError(f"The task {task_id} is not {state} after {timeout:.0f} s: {now}")

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set a task's state, as a person does in the UI."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._answer(self._http.patch(path, json={"new_state": state}))

    def clear_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Have a task executed again, whatever its state, as a person does in the UI."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._answer(self._http.post(f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body))

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Set a run's state, as a person does in the UI."""
        self._answer(self._http.patch(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": state}))

    def jobs(self, job_type: str) -> set[int]:
        """Tell the ids of the components of a type that are alive."""
        found = self.get("/api/v2/jobs", job_type=job_type, is_alive=True)["jobs"]
        return {job["id"] for job in found}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        """Return a value that a task pushed; None if it has not."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._http.get(path, params={"deserialize": True})
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._answer(answer)["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Tell the address of each of a task's buttons."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.get(path)["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1) -> list[str]:
        """Return the messages of a task's log, each error with its exception."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.get(path, full_content=True)["content"]
        return [_message(line) if isinstance(line, dict) else str(line) for line in content]

    def connection_form(self, connection_type: str) -> dict[str, Any]:
        """Return what the UI is told about a connection type's form."""
        for form in self.get("/ui/connections/hook_meta"):
            if form["connection_type"] == connection_type:
                return dict(form)
        raise AirflowError(f"Airflow knows no connection type {connection_type!r}")

    def test_connection(self, connection_id: str) -> dict[str, Any]:
        """Press the button Test of a stored connection, whose secrets the UI does not know."""
        known = self.get(f"/api/v2/connections/{connection_id}")
        return dict(self._answer(self._http.post("/api/v2/connections/test", json=known)))

    def _check_imports(self) -> None:
        errors = self.get("/api/v2/importErrors")["import_errors"]
        if errors:
            told = "\n".join(f"{error['filename']}:\n{error['stack_trace']}" for error in errors)
            raise AirflowError(f"Airflow cannot import a DAG file.\n{told}")

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.is_error:
            request = response.request
            raise AirflowError(
                f"{request.method} {request.url} was refused with {response.status_code}: {response.text}"
            )
        return response.json()


def _message(line: dict[str, Any]) -> str:
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return "\n".join([line["event"], *errors])
