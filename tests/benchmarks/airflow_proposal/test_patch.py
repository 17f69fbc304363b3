"""The patch for Airflow applies to the Airflow that is installed, and its tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.benchmarks.deployment.patched_airflow import patched_airflow

PATCH: Final = Path(__file__).parent / "triggerer-loop.patch"
TESTS: Final = "airflow-core/tests/unit/jobs/test_triggerer_loop.py"


def test_patch_passes_its_own_tests(tmp_path: Path) -> None:
    """Airflow's maintainers get them. One of them fails without the patch."""
    only_tests = ("git", "apply", "--include", TESTS, str(PATCH))
    subprocess.run(only_tests, cwd=tmp_path, check=True)

    with patched_airflow(PATCH) as folder:
        patched = _run(tmp_path, python_path=str(folder))
    installed = _run(tmp_path, python_path="")

    assert patched.returncode == 0, patched.stdout
    assert "5 passed" in patched.stdout
    assert "1 failed, 4 passed" in installed.stdout


def _run(folder: Path, python_path: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "PYTHONPATH": python_path,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), TESTS]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
