"""
Test of the emulator with the SageMaker Python SDK.

The SDK needs a virtual environment of its own. ``POLYSYNC_SDK_PYTHON`` is the Python of an environment that
has ``sagemaker<3``. Without it, the test creates an environment once and keeps it in pytest's cache.
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
    if configured := os.environ.get("POLYSYNC_SDK_PYTHON"):
        return configured
    folder = pytestconfig.cache.mkdir("sagemaker-sdk")
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "sagemaker<3"], check=True)
        ready.touch()
    return str(python)


@pytest.mark.sdk
def test_sdk_runs_a_pipeline(sdk_python: str, tmp_path: Path) -> None:
    """The SDK creates, updates, starts and stops a pipeline as with AWS, and one execution fails."""
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
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert process.returncode == 0, process.stderr
        failures = [call for call in server.control.calls() if call["status"] == 500]
    results = json.loads(process.stdout.splitlines()[-1])
    arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/SdkPipeline"
    assert results == {
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
