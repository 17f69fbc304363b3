"""A folder with DAG files, as the only bundle of Airflow."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


def use_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow find the DAGs of a folder, also those that a run does not start."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundle = {"name": folder.name, "classpath": local, "kwargs": {"path": str(folder)}}
    monkeypatch.setenv(
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle])
    )
    if CAPABILITIES.task_sdk:
        # Airflow 3.4 reads the option only once in a process.
        manager, name = (
            import_module("airflow.dag_processing.bundles.manager"),
            "_load_bundle_config_snapshot",
        )
        if cached := getattr(manager, name, None):
            monkeypatch.setattr(manager, name, cached.__wrapped__)
