"""
Runs a Start task in a process of its own, which gets SIGTERM while it imports a module.

It reads what to run from its input, a JSON object a line, and writes what became of it.
Each run is a fork, which has not yet imported what only a running task imports.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.execution_time import task_runner

from polysync_airflow.execution import clock
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.fakes.airflow_service import DEPLOYMENT, AirflowService, Channel

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYMENT_KEY = "polysync_deployment"
KEY = {
    "dag_id": "retraining",
    "run_id": "manual__1",
    "task_id": "train",
    "map_index": -1,
}
# What else is imported has no code that asks Airflow or AWS.
THEIRS = ("polysync_airflow", "boto3", "botocore", "airflow")


class Service(AirflowService):
    """
    Answers for one task instance.

    :param variables: the Variables.
    """

    def __init__(self, variables: dict[str, str]) -> None:
        self.state = "running"
        self.variables = {DEPLOYMENT_KEY: DEPLOYMENT, **variables}

    def task_state(self, *_: Any) -> str:
        """Return the state of the task instance."""
        return self.state

    def xcom(self, *_: Any) -> None:
        """Return no XCom."""

    def put_xcom(self, *_: Any) -> None:
        """Accept an XCom."""

    def remove_xcom(self, *_: Any) -> None:
        """Accept that an XCom is deleted."""

    def variable(self, key: str) -> str | None:
        """Return a Variable."""
        return self.variables.get(key)

    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable."""
        self.variables[key] = value

    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""
        self.variables.pop(key, None)


class ImpatientClock(clock.Clock):
    """Does not wait."""

    def sleep(self, seconds: float) -> None:
        """Let no time pass."""


class Recorder:
    """
    Notes each module whose import begins; at one of them, a user ends the task.

    :param at: the module; None for none.
    """

    def __init__(self, at: str | None, service: Service) -> None:
        self.begun: list[str] = []
        self._at = at
        self._service = service

    def find_spec(self, name: str, *_: Any) -> None:
        """Look for nothing."""
        if name not in self.begun:
            self.begun.append(name)
        if name == self._at:
            self._at = None
            self._service.state = "failed"
            os.kill(os.getpid(), signal.SIGTERM)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run a try; return what became of it."""
    service = Service(job["variables"])
    task_runner.SUPERVISOR_COMMS = Channel(service)  # type: ignore[assignment]
    task = PolysyncStartPipelineOperator(
        task_id=KEY["task_id"], pipeline_name="fanout", deferrable=True, retries=1
    )
    recorder = Recorder(job["at"], service)
    found: dict[str, Any] = {"imports_of_on_kill": None, "error": None}

    def on_term(*_: Any) -> None:
        before = len(recorder.begun)
        try:
            task.on_kill()
        finally:
            found["imports_of_on_kill"] = [
                name for name in recorder.begun[before:] if name.startswith(THEIRS)
            ]

    signal.signal(signal.SIGTERM, on_term)
    sys.meta_path.insert(0, recorder)
    ti: Any = SimpleNamespace(
        **KEY,
        id="00000000-0000-0000-0000-000000000001",
        try_number=job["try_number"],
        max_tries=1,
        xcom_push=lambda *_, **__: None,
        xcom_pull=lambda **_: None,
    )
    dag_run = SimpleNamespace(start_date=STARTED_AT, clear_number=0)
    context: Any = {"ti": ti, "task": task, "dag_run": dag_run}
    try:
        with clock.replaced_by(ImpatientClock()):
            task.execute(context)
    except TaskDeferred:
        found["error"] = "deferred"
    except BaseException as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return {**found, "begun": recorder.begun, "variables": service.variables}


def main() -> None:
    """Run each try that the input asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the log
    for line in sys.stdin:
        readable, writable = os.pipe()
        if os.fork() == 0:
            answer = run(json.loads(line))
            with os.fdopen(writable, "w") as pipe:
                json.dump(answer, pipe)
            os._exit(0)
        os.close(writable)
        with os.fdopen(readable) as pipe:
            print(pipe.read(), file=answers, flush=True)
        os.wait()


if __name__ == "__main__":
    main()
