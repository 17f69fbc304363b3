"""The client of version 2 of the REST API, which Airflow 3 has."""

from __future__ import annotations

import json
import time
from typing import Any, ClassVar

from tests.system.airflow.client import AirflowClient, AirflowError


class ClientV2(AirflowClient):
    """Client of the API server of Airflow 3."""

    api = "/api/v2"
    health_path = "/api/v2/monitor/health"
    new_run: ClassVar = {"logical_date": None}
    marking: ClassVar = {}
    native_xcom: ClassVar = {"deserialize": True}

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float, interval: float = 1) -> str:
        """See `AirflowClient.wait_for_run`."""
        deadline = time.monotonic() + timeout
        state = "unknown"
        # While the run lasts, Airflow sends one line with a JSON document per interval.
        with self._http.stream(
            "GET", f"{self._run(dag_id, run_id)}/wait", params={"interval": interval}
        ) as response:
            for line in response.iter_lines():
                state = json.loads(line)["state"]
                if time.monotonic() > deadline:
                    raise AirflowError(f"The DAG run {run_id} is still {state} after {timeout:.0f} s")
        return state

    def jobs(self, job_type: str) -> set[int]:
        """See `AirflowClient.jobs`."""
        jobs = self.get(f"{self.api}/jobs", job_type=job_type, is_alive=True)["jobs"]
        return {job["id"] for job in jobs}

    def connection_form(self, connection_type: str) -> dict[str, Any]:
        """See `AirflowClient.connection_form`."""
        for form in self.get("/ui/connections/hook_meta"):
            if form["connection_type"] == connection_type:
                return dict(form)
        raise AirflowError(f"Airflow has no connection type {connection_type!r}")

    def _links(self, response: Any) -> dict[str, str | None]:
        return dict(response["extra_links"])

    def _messages(self, content: Any) -> list[str]:
        return [_message(line) if isinstance(line, dict) else str(line) for line in content]


def _message(line: dict[str, Any]) -> str:
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()]
    return "\n".join([line["event"], *errors])
