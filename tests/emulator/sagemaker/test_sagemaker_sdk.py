"""The real SageMaker Python SDK against the emulator.

It needs an environment of its own. ``POLYSYNC_SDK_PYTHON`` names the Python of one that has ``sagemaker<3``; without
it, one is built once and kept in pytest's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polysync_airflow.emulator import EmulatorServer, RealClock

PROGRAM = Path(__file__).parent / "sdk_pipeline.py"
NO_TELEMETRY = "{SchemaVersion: '1.0', SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}}"


@pytest.fixture(scope="module")
def sdk_python(pytestconfig: pytest.Config) -> str:
    """The Python of an environment that has the SDK."""
    if given := os.environ.get("POLYSYNC_SDK_PYTHON"):
        return given
    folder = pytestconfig.cache.mkdir("sagemaker-sdk")
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "sagemaker<3"], check=True)
        ready.touch()
    return str(python)


@pytest.mark.sdk
def test_the_sdk_runs_a_pipeline(sdk_python: str, tmp_path: Path) -> None:
    """The SDK creates, updates, runs, fails and stops a pipeline as it does with AWS."""
    config = tmp_path / "config.yaml"
    config.write_text(NO_TELEMETRY)
    with EmulatorServer(clock=RealClock(speed=300)) as server:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(config),
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
        }
        command = [sdk_python, str(PROGRAM), server.endpoint_url, str(tmp_path)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        failures = [call for call in server.control.calls() if call["status"] == 500]
    seen = json.loads(done.stdout.splitlines()[-1])
    arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/sdkpipeline"
    assert seen == {
        "created": arn,
        "updated": arn,
        "succeeded": "Succeeded",
        "steps": ["Check", "Prepare", "Train"],
        "parameters": {"Source": "s3://other", "Score": "0.9"},
        "failed": "Step failure: One or multiple steps failed.",
        "reasons": ["Score is only 0.1"],
        "stopping": "Stopping",
        "refused": "ValidationException",
    }
    assert failures == []
