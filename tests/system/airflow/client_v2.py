"""The client of version 2 of the REST API, which Airflow 3 has."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.system.airflow.client import AirflowClient, AirflowError


class ClientV2(AirflowClient):
    """Client of the API server of Airflow 3."""

    api = "/api/v2"
    health_path = "/api/v2/monitor/health"
    new_run: ClassVar = {"logical_date": None}
    marking: ClassVar = {}
    native_xcom: ClassVar = {"deserialize": True}

    def create_asset_event(self, uri: str, extra: dict[str, Any]) -> None:
        """See `AirflowClient.create_asset_event`."""
        assets = self.get(f"{self.api}/assets", uri_pattern=uri)["assets"]
        (asset,) = [asset for asset in assets if asset["uri"] == uri]
        body = {"asset_id": asset["id"], "extra": extra}
        self._parse(self._http.post(f"{self.api}/assets/events", json=body))

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
        return [
            _message(line) if isinstance(line, dict) else str(line) for line in content
        ]


def _message(line: dict[str, Any]) -> str:
    errors = [
        f"{error['exc_type']}: {error['exc_value']}"
        for error in line.get("error_detail") or ()
    ]
    return "\n".join([line["event"], *errors])
