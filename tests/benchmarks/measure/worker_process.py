"""
A process that executes operators one after the other, as a worker does.

Its arguments are modules to import before the measurement. It prints ``ready``, reads
``{"operators": [[class path, arguments], ...]}`` as a line of JSON, and prints the
measurements as JSON in its last line. An operator with an event as third member is
resumed with it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.log import configure_logging

from tests.benchmarks.measure.fresh_process import READY
from tests.benchmarks.measure.memory import peak_memory


class FakeSupervisor:
    """
    The Variables and XComs that a first try uses: there are none yet, and some are
    written.
    """

    def send(self, msg: Any) -> Any:
        """Return the response to a request."""
        if isinstance(msg, comms.GetVariable):
            return comms.ErrorResponse(
                error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key}
            )
        if isinstance(msg, comms.GetXComSequenceSlice):
            return comms.XComSequenceSliceResult(root=[])
        assert isinstance(msg, comms.PutVariable), msg
        return comms.OKResponse(ok=True)


def task_context() -> dict[str, Any]:
    """Return the part of a task's context that a first try uses."""
    ti = SimpleNamespace(
        dag_id="benchmark",
        task_id="start",
        run_id="manual__2026-01-01T00:00:00+00:00",
        map_index=-1,
        try_number=1,
        max_tries=0,
        xcom_push=lambda key, value: json.dumps(value),
        xcom_pull=lambda **_: None,
    )
    task_runner.SUPERVISOR_COMMS = FakeSupervisor()  # type: ignore[assignment]
    dag_run = SimpleNamespace(start_date=datetime.now(UTC), clear_number=0)
    return {"ti": ti, "dag_run": dag_run}


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """
    Call a function, and return its result and the CPU and wall seconds that it took.

    :param function: the function to time.
    """
    # CPU time of the whole process, because the operators also work in threads.
    cpu, wall = time.process_time(), time.perf_counter()
    result = function()
    return result, {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
    }


def execute(
    class_path: str, arguments: Mapping[str, Any], event: Any = None
) -> dict[str, Any]:
    """
    Import an operator, create it and execute it; return the time of the import and of
    the execution.

    :param class_path: the operator's class path.
    :param arguments: the operator's arguments.
    :param event: the event with which a deferred task is resumed; None to execute it
        from the beginning.
    """
    module, _, name = class_path.rpartition(".")
    imported, import_time = timed(lambda: importlib.import_module(module))
    operator = getattr(imported, name)(**arguments)
    context = task_context()
    result, execute_time = timed(
        lambda: (
            operator.execute_complete(context, event)
            if event
            else operator.execute(context)
        )
    )
    return {
        "import": import_time,
        "execute": execute_time,
        "results": len(result),
        "peak": peak_memory(),
    }


def main(*modules: str) -> None:
    """
    Read the task from standard input, execute the operators, and print the
    measurements.

    :param modules: modules to import before the measurement.
    """
    with Path(os.devnull).open("wb", buffering=0) as output:
        configure_logging(json_output=True, output=output, sending_to_supervisor=True)
        for module in modules:
            importlib.import_module(module)
        print(READY, flush=True)
        task = json.loads(sys.stdin.readline())
        print(
            json.dumps([execute(*operator) for operator in task["operators"]]),
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
