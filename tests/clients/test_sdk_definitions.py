"""
PutPipeline with the definitions that SageMaker's Python SDK makes of all types of its
steps. ``make test-clients`` creates the environments of both versions.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest

from polysync_airflow.operators import PolysyncPutPipelineOperator
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE
from tests.tasks import run_task

PROGRAM = Path(__file__).parent / "programs/step_types.py"
EMULATOR = Path(__file__).parents[2] / "emulator"
KEYS: dict[str, Any] = {
    "aws_access_key_id": "any",
    "aws_secret_access_key": "any",
    "region_name": "us-east-1",
}
# The SDK uploads their code under a name with the time, or a random one.
DIFFERENT_EACH_TIME = {
    2: {"NotebookJob", "@step"},
    3: {"NotebookJob", "@step", "Training", "Tuning"},
}
# An SDK takes long to import where other tests run at the same time.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(600)]


def definitions(
    version: int, emulator: EmulatorServer, folder: Path
) -> list[dict[str, str]]:
    """Return what the program of an SDK prints."""
    python = os.environ.get(f"POLYSYNC_SDK{version}_PYTHON")
    if python is None:
        pytest.fail("run make test-clients", pytrace=False)
    boto3.client("s3", endpoint_url=emulator.endpoint_url, **KEYS).create_bucket(
        Bucket="sdk-bucket"
    )
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(EMULATOR),
        "AWS_ENDPOINT_URL": emulator.endpoint_url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        # No telemetry leaves this machine.
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    process = subprocess.run(
        [python, PROGRAM, str(version), folder],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *_, line = process.stdout.splitlines()
    found: list[dict[str, str]] = json.loads(line)
    return found


def put(name: str, definition: str) -> int:
    """Put a pipeline, and return its version."""
    operator = PolysyncPutPipelineOperator(
        task_id="put", pipeline_name=name, definition=definition, role_arn=ROLE
    )
    run = run_task(operator)
    assert run.error is None
    version: int = run.xcoms["pipeline_version_id"]
    return version


@pytest.mark.parametrize("version", [2, 3])
def test_each_type_of_step(
    version: int, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """
    Each type is put, put again without a new version, and changed. The same pipeline,
    made again later, is the same definition, except for the types that the page names.
    """
    first, again, other = definitions(version, emulator, tmp_path)
    assert len(first) == 19
    versions = {}
    for number, name in enumerate(first):
        texts = (first[name], first[name], other[name], other[name])
        versions[name] = [put(f"sdk-{number}", text) for text in texts]

    assert versions == {name: [1, 1, 2, 2] for name in first}
    different = {name for name in first if first[name] != again[name]}
    assert different == DIFFERENT_EACH_TIME[version]
