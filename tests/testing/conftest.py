"""A project of a DAG author, in which pytest runs as a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "polysync_airflow.testing.plugin"
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator

with DAG("scoring", schedule=None):
    PolysyncStartPipelineOperator(
        task_id="score", pipeline_name="fanout", pipeline_parameters={"Shards": 5}, deferrable=True
    )
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """
    Return a function that runs pytest in a project with some files.

    It takes the text of each file by its path. The project has no Airflow, and a home folder of its own.
    """
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)
    # The environment of a developer may have the entry point or not; the option works for both.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(files: dict[str, str], *arguments: str) -> pytest.RunResult:
        for name, text in {"pytest.ini": "[pytest]\naddopts = --strict-markers", **files}.items():
            path = pytester.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", *arguments)

    return run
