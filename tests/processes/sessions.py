"""
Runs pytest in a project of a DAG author: in this process, where Airflow is imported, or
in one of its own.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "polysync_airflow.testing.plugin"
# The environment of a developer may have the entry point or not; the option works for
# both.
OPTIONS = ("-p", PLUGIN, "-p", "no:cacheprovider")
ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}


def run_process(project: Path, *arguments: str) -> pytest.RunResult:
    """Run pytest in a folder, in a process of its own."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, *arguments],
        check=False,
        cwd=project,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
    )
    return _result(done.returncode, done.stdout, done.stderr, began)


def run_session(project: Path, *arguments: str) -> pytest.RunResult:
    """
    Run pytest in a folder, in this process, which has none of the project's modules
    afterwards.

    Those that Airflow has imported meanwhile stay, unlike with ``pytester``: its tables
    cannot be defined again.
    """
    out = io.StringIO()
    err = io.StringIO()
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patches:
        patches.chdir(project)
        patches.setattr(sys, "path", list(sys.path))
        patches.setattr(sys, "meta_path", list(sys.meta_path))
        patches.setattr(sys, "dont_write_bytecode", True)
        for name, value in ENVIRONMENT.items():
            patches.setenv(name, value)
        # The session inside sets it for its own tests.
        patches.setenv("PYTEST_CURRENT_TEST", os.environ["PYTEST_CURRENT_TEST"])
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = pytest.main(
                    [*OPTIONS, "-p", "no:faulthandler", "--capture=sys", *arguments]
                )
        finally:
            _forget_modules(project)
    return _result(code, out.getvalue(), err.getvalue(), began)


def _result(code: int, out: str, err: str, began: float) -> pytest.RunResult:
    return pytest.RunResult(
        code, out.splitlines(), err.splitlines(), time.monotonic() - began
    )


def _forget_modules(project: Path) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(project):
            del sys.modules[name]
