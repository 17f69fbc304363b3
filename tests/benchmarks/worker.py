"""
Owns a stand-in for a worker: a process that executes operators, one after the other.

Its arguments are modules to import beforehand. It prints ``ready``, reads ``{"operators": [class path, arguments]}``
as a line of JSON, and prints what it measured as JSON in its last line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk.log import configure_logging

from tests.benchmarks.memory import peak_memory
from tests.benchmarks.process import READY


class Store(dict[str, Any]):
    """Stands in for the task state store, as far as a first try needs it."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        """Store a value."""
        self[key] = json.dumps(value)


def context() -> dict[str, Any]:
    """Return as much of a task's context as a first try needs."""
    ti = SimpleNamespace(
        dag_id="benchmark",
        task_id="start",
        run_id="manual__2026-01-01T00:00:00+00:00",
        map_index=-1,
        try_number=1,
        max_tries=0,
        xcom_push=lambda key, value: json.dumps(value),
    )
    return {"ti": ti, "task_state_store": Store()}


def timed(call: Any) -> tuple[Any, dict[str, float]]:
    """
    Call; return the result, and the seconds that it took.

    :param call: what is timed.
    """
    # Calls are threads' too, so the process's time counts.
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def execute(class_path: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Import an operator, make it, and execute it; tell what each took.

    :param class_path: the operator's.
    :param arguments: the operator's.
    """
    module, _, name = class_path.rpartition(".")
    imported, importing = timed(lambda: importlib.import_module(module))
    operator = getattr(imported, name)(**arguments)
    result, executing = timed(lambda: operator.execute(context()))
    return {"import": importing, "execute": executing, "results": len(result), "peak": peak_memory()}


def main(*modules: str) -> None:
    """
    Do as ordered.

    :param modules: modules to import beforehand.
    """
    with Path(os.devnull).open("wb", buffering=0) as nowhere:
        configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)
        for module in modules:
            importlib.import_module(module)
        print(READY, flush=True)
        orders = json.loads(sys.stdin.readline())
        print(json.dumps([execute(*operator) for operator in orders["operators"]]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
