"""A project of a DAG author, in which pytest runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.sessions import run_process, run_session

DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG("scoring", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="score", pipeline_name="fanout", pipeline_parameters={"Shards": 5}, deferrable=True
    )
"""


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., pytest.RunResult]:
    """
    Return a function that runs pytest in a project with some files.

    It takes the text of each file by its path, and whether pytest runs in a new
    process, which has not imported Airflow: that takes seconds. The project has no
    Airflow, and is its own home folder.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)

    def run(
        files: dict[str, str], *arguments: str, new_process: bool = False
    ) -> pytest.RunResult:
        for name, text in {
            "pytest.ini": "[pytest]\naddopts = --strict-markers",
            **files,
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return (run_process if new_process else run_session)(tmp_path, *arguments)

    return run
