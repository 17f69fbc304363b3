"""The client of version 1 of the REST API, which Airflow 2 has."""

from __future__ import annotations

import ast
import re
from contextlib import closing
from typing import Any, ClassVar, Final, NoReturn

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.system.airflow.client import AirflowClient, AirflowError

# Airflow 2 returns a log as text. Each message begins with time, file and level.
PREFIX: Final = re.compile(r"^\[\S+\] \{\S+\} [A-Z]+ - ", re.MULTILINE)
# Each page of the UI has the token without which the web server accepts no form.
CLEARED: Final = re.compile(r"[1-9][0-9]* task instances have been cleared")
CSRF_TOKEN: Final = re.compile(r'name="csrf_token"[^>]*(?:value|content)="([^"]+)"')
RUNNING_JOBS: Final = text(
    "SELECT id FROM job WHERE state = 'running' AND job_type = :job_type"
)


class ClientV1(AirflowClient):
    """
    Client of the web server of Airflow 2.

    :param url: the address of the web server.
    :param database: the SQLAlchemy URL of Airflow's database, because this version of
        the REST API has no jobs.
    """

    api = "/api/v1"
    health_path = "/api/v1/health"
    new_run: ClassVar = {}
    marking: ClassVar = {"dry_run": False}
    native_xcom: ClassVar = {"stringify": False}

    def __init__(self, url: str, database: str) -> None:
        super().__init__(url)
        self._database = create_engine(database, pool_pre_ping=True)

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._database.dispose()

    def create_asset_event(self, uri: str, extra: dict[str, Any]) -> None:
        """See `AirflowClient.create_asset_event`."""
        body = {"dataset_uri": uri, "extra": extra}
        self._parse(self._http.post(f"{self.api}/datasets/events", json=body))

    def jobs(self, job_type: str) -> set[int]:
        """
        See `AirflowClient.jobs`. A job that was killed remains among them for some
        time.
        """
        try:
            with closing(self._database.connect()) as connection:
                return set(
                    connection.execute(RUNNING_JOBS, {"job_type": job_type}).scalars()
                )
        except OperationalError as error:
            raise AirflowError(f"The database cannot be read: {error}") from error

    def clear_task(
        self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = False
    ) -> None:
        """
        See `AirflowClient.clear_task`. The tasks are cleared one after the other.

        This sends the form of the UI: the REST API of Airflow 2 says that it has
        cleared a running task, but leaves it as it is.
        """
        page = self._http.get("/home", follow_redirects=True).raise_for_status().text
        token = CSRF_TOKEN.search(page)
        if token is None:
            raise AirflowError("The home page of Airflow has no CSRF token")
        form = {
            "csrf_token": token[1],
            "dag_id": dag_id,
            "execution_date": self.get(self._run(dag_id, run_id))["logical_date"],
            "confirmed": "true",
            **({"downstream": "true"} if downstream else {}),
        }
        for task_id in task_ids:
            response = self._http.post("/clear", data={**form, "task_id": task_id})
            if not CLEARED.fullmatch(response.text):
                text = f"{response.status_code} {response.text}"
                raise AirflowError(f"The task {task_id} was not cleared: {text}")

    def connection_form(self, connection_type: str) -> NoReturn:
        """
        See `AirflowClient.connection_form`. Airflow 2 has the form only in its HTML
        pages.
        """
        raise AirflowError(f"Airflow 2 does not return the form of {connection_type!r}")

    def _links(self, response: Any) -> dict[str, str | None]:
        return dict(response)

    def _messages(self, content: Any) -> list[str]:
        # The content is the text of a Python list: of each host, its name and its part
        # of the log.
        parts = (PREFIX.split(part) for _host, part in ast.literal_eval(content))
        return [message.rstrip("\n") for messages in parts for message in messages]
