"""
Tests of the emulator with clients that have environments of their own: ``make
test-clients`` creates them.

Each client runs a program that uses it as people do, and prints what it has seen. The
programs get the variable ``AWS_ENDPOINT_URL``, invented keys and a region, and a proxy
that refuses all that leaves this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer, RealClock
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.engine.durations import DEFAULTS
from tests.builders import condition, fail
from tests.clients.outside import proxy

PROGRAMS = Path(__file__).parent / "programs"
PROJECT = Path(__file__).parents[2]
NO_TELEMETRY = (
    "{SchemaVersion: '1.0', SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}}"
)
# The environments of the SDKs are slow to import where other tests run at the same
# time.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(330)]
STS = "sts.us-east-1.amazonaws.com:443"


@dataclass
class Run:
    """
    What a program has printed, the hosts outside of this machine that it wanted, and
    its failed calls.
    """

    results: dict[str, Any]
    outside: list[str]
    server_errors: list[dict[str, Any]]


def environment(name: str) -> Path:
    """Return the path in a variable that ``make test-clients`` sets."""
    if name not in os.environ:
        pytest.fail(f"{name} is not set: run make test-clients", pytrace=False)
    return Path(os.environ[name])


def run(folder: Path, *command: str | Path, **more: str) -> Run:
    """Run a program against an emulator of its own."""
    config = folder / "config.yaml"
    config.write_text(NO_TELEMETRY)
    with EmulatorServer(clock=RealClock(speed=100)) as server, proxy() as outside:
        # What the function of a step returns, which no job runs.
        server.control.put_scenario({"steps": {"add": {"result": 5}}}, "Functions")
        server.control.put_scenario({"steps": {"Endless": {"duration": None}}}, "Demo")
        variables = {
            **outside.variables,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_ENDPOINT_URL": server.endpoint_url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(config),
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
            **more,
        }
        process = subprocess.run(
            command,
            env=variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert process.returncode == 0, f"{process.stdout}{process.stderr}"
        failures = [call for call in server.control.calls() if call["status"] >= 500]
    return Run(
        json.loads(process.stdout[process.stdout.index("{") :]), outside.hosts, failures
    )


@pytest.mark.parametrize("client", ["boto3", "aws_cli", "javascript"])
def test_generic_client(client: str, tmp_path: Path) -> None:
    """
    Each client creates a pipeline, waits, reads the steps by pages, and stops; its
    errors have their codes.
    """
    score_is_low = {
        "Type": "LessThan",
        "LeftValue": {"Get": "Parameters.Score"},
        "RightValue": 0.5,
    }
    message = {
        "Std:Join": {"On": " ", "Values": ["Score is", {"Get": "Parameters.Score"}]}
    }
    # With the default score, the execution runs until the client stops it.
    is_low = condition(
        "IsLow", [score_is_low], [fail("TooLow", message)], [step("Endless")]
    )
    score_is_high = {**score_is_low, "Type": "GreaterThan"}
    check = {
        **condition("Check", [score_is_high], [step("Train", "Training")], [is_low]),
        "DependsOn": ["Prepare"],
    }
    score = {"Name": "Score", "Type": "Float", "DefaultValue": 0.5}
    file = tmp_path / "definition.json"
    file.write_text(definition(check, step("Prepare"), parameters=(score,)))
    command: tuple[str | Path, ...]
    if client == "boto3":
        command = (sys.executable, PROGRAMS / "boto3_pipeline.py")
    elif client == "aws_cli":
        command = (
            "bash",
            PROGRAMS / "aws_cli_pipeline.sh",
            environment("POLYSYNC_AWS_CLI"),
        )
    else:
        (tmp_path / "node_modules").symlink_to(environment("POLYSYNC_NODE_MODULES"))
        program = tmp_path / "javascript_pipeline.mjs"
        program.write_text((PROGRAMS / program.name).read_text())
        command = ("node", program)

    outcome = run(tmp_path, *command, file)

    assert outcome == Run(
        results={
            "created": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/Demo",
            "statuses": ["Succeeded", "Failed", "Stopped"],
            "steps": ["Prepare", "Check", "Train"],
            "reasons": ["Score is 0.1"],
            "refused": "ValidationException",
        },
        outside=[],
        server_errors=[],
    )


def test_queues_of_the_aws_cli(tmp_path: Path) -> None:
    """
    Version 1 of the AWS CLI has an address of its own for SQS, which only its option
    replaces.
    """
    outcome = run(
        tmp_path, "bash", PROGRAMS / "aws_cli_queue.sh", environment("POLYSYNC_AWS_CLI")
    )
    assert outcome == Run(
        {"body": ["hello"]}, outside=["queue.amazonaws.com:443"], server_errors=[]
    )


@pytest.mark.parametrize("version", [2, 3])
def test_sagemaker_sdk(version: int, tmp_path: Path) -> None:
    """
    The SDK finds its role and its bucket, and creates, updates, starts and stops a
    pipeline; one execution fails.

    Without a set-up, only its call of STS leaves the machine. Version 3 also refuses a
    role without permissions.
    """
    python = environment(f"POLYSYNC_SDK{version}_PYTHON")
    more = {"PYTHONPATH": str(PROJECT)} if version == 3 else {}
    outcome = run(
        tmp_path, python, PROGRAMS / f"sagemaker_v{version}.py", tmp_path, **more
    )
    unknown = set(outcome.results.pop("types")) - DEFAULTS.keys()
    assert not unknown, (
        f"the SDK has types of steps that DEFAULTS in engine/durations.py lacks: {unknown}"
    )
    arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/SdkPipeline"
    both = {
        "without": "ProxyConnectionError",
        "role": ROLE,
        "bucket": "sagemaker-us-east-1-123456789012",
        "created": arn,
        "updated": arn,
        "succeeded": "Succeeded",
        "is_stopped": True,
        "function": 5,
    }
    only: dict[int, dict[str, Any]] = {
        2: {
            "steps": ["Check", "Prepare", "Train"],
            "parameters": {"Source": "s3://other", "Score": "0.9"},
            "failed": "Step failure: One or multiple steps failed.",
            "reasons": ["Score is only 0.1"],
            "refused": "ValidationException",
        },
        3: {
            "steps": ["Check", "Train"],
            "reasons": ["Score is too low"],
            "loops": [
                *(
                    "Best",
                    "Check-0",
                    "Check-1",
                    "Check-2",
                    "End",
                    "Field-0",
                    "If",
                    "Literals",
                    "Objects",
                    "Third",
                ),
                *("Work-0", "Work-1", "Work-2"),
            ],
            "counts": ["3 6 Succeeded"],
            "refused": True,
            "restored": True,
        },
    }
    assert outcome == Run(
        results={**both, **only[version]}, outside=[STS], server_errors=[]
    )
