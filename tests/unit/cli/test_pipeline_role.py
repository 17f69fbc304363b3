"""``polysync iam policy --pipeline-role``: its sources, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.sagemaker.store import ACCOUNT
from tests.conftest import DEFINITIONS
from tests.unit.cli.conftest import Polysync
from tests.unit.events.conftest import client

POLICY = ("iam", "policy", f"--account={ACCOUNT}", "--region=us-east-1")
OTHER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Other"
INPUT = {"Get": "Parameters.Input"}


def sids(document: Any) -> set[str]:
    """Return the names of the statements of a printed role."""
    (policy,) = document["Policies"]
    return {entry["Sid"] for entry in policy["PolicyDocument"]["Statement"]}


def test_of_a_definition(polysync: Polysync) -> None:
    """With the role, jobs with another one need only what starts them."""
    file = DEFINITIONS / "callback_lambda.json"

    printed = polysync(*POLICY, "--pipeline-role", "--definition", file)
    of_role = polysync(*POLICY, "--pipeline-role", OTHER_ROLE, "--definition", file)

    calls = {"CallbackQueues", "LambdaFunctions", "PassRoles", "ProcessingJobs"}
    jobs = {"Images", "LogsOfProcessing", "Metrics", "Registry"}
    assert (printed.code, printed.err) == (0, "")
    assert sids(printed.document) == calls | jobs
    assert sids(of_role.document) == calls


def test_of_a_deployed_pipeline(polysync: Polysync, emulator: EmulatorServer) -> None:
    """AWS says which role and definition it has."""
    steps = [step("A", "Training"), step("B", "Athena")]
    client(emulator, "sagemaker").create_pipeline(
        PipelineName="nightly",
        PipelineDefinition=definition(*steps),
        RoleArn=OTHER_ROLE,
    )

    printed = polysync(*POLICY, "--pipeline-role", "--pipeline", "nightly")

    assert sids(printed.document) == {"PassRoles", "TrainingJobs"}
    (trust,) = printed.document["AssumeRolePolicyDocument"]["Statement"]
    executions = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/nightly/*"
    assert trust["Condition"] == {"ArnLike": {"aws:SourceArn": [executions]}}
    assert printed.err == "Step B: what steps of type 'Athena' need is not known.\n"


def test_of_a_job(polysync: Polysync, tmp_path: Path) -> None:
    """The config has what Airflow renders, and makes a model if it has one."""
    config = tmp_path / "config.json"
    source = {"S3DataSource": {"S3Uri": "s3://in/{{ ds }}/"}}
    model = {"ExecutionRoleArn": ROLE, "PrimaryContainer": {}}
    transform = {"TransformInput": {"DataSource": source}}
    config.write_text(json.dumps({"Model": model, "Transform": transform}))

    printed = polysync(
        *POLICY, "--pipeline-role", "--definition", config, "--job-type=Transform"
    )

    assert {"Models", "TransformJobs", "PassRoles", "Input"} < sids(printed.document)
    assert "arn:aws:s3:::in/*/*" in printed.out


@pytest.mark.parametrize(
    ("content", "options", "problem"),
    [
        ("", ("--verify",), "--verify does not go with --pipeline-role"),
        ("", ("--pass-role", ROLE), "--pass-role does not go with --pipeline-role"),
        ("", ("--pipeline=x",), "--pipeline-role needs a --definition, or one"),
        ("[]", (), "the definition is no JSON object"),
        ("{", (), "the definition is not JSON"),
        (
            definition({"Name": "A", "Type": "Training", "Arguments": {}}),
            (),
            "Step A names no role for its job: name the role of the pipeline",
        ),
        (
            definition(step("A", "Training", Arguments={"RoleArn": INPUT})),
            (),
            "is known only when it starts: Step A: RoleArn. Give the parameters there",
        ),
    ],
)
def test_what_is_refused(
    polysync: Polysync,
    tmp_path: Path,
    content: str,
    options: tuple[str, ...],
    problem: str,
) -> None:
    """The error names what is wrong, and the cure."""
    file = tmp_path / "definition.json"
    file.write_text(content)

    refused = polysync(*POLICY, "--pipeline-role", "--definition", file, *options)

    assert problem in refused.refusal


def test_all_resources_are_allowed_only_on_demand(
    polysync: Polysync, tmp_path: Path
) -> None:
    """With ``--allow-wildcards``."""
    file = tmp_path / "definition.json"
    file.write_text(definition(step("A", "Training", Arguments={"RoleArn": INPUT})))

    printed = polysync(
        *POLICY, "--pipeline-role", "--definition", file, "--allow-wildcards"
    )

    (passed,) = [
        entry
        for entry in printed.document["Policies"][0]["PolicyDocument"]["Statement"]
        if entry["Sid"] == "PassRoles"
    ]
    assert passed["Resource"] == ["*"]


@pytest.mark.parametrize("option", ["--definition=x", "--job-type=Training"])
def test_options_of_the_role_go_with_it_only(polysync: Polysync, option: str) -> None:
    """Without it, they would do nothing."""
    refused = polysync(*POLICY, option)

    assert (
        f"{option.partition('=')[0]} goes with --pipeline-role only" in refused.refusal
    )


def test_definition_that_cannot_be_read(polysync: Polysync) -> None:
    """The error names the file."""
    refused = polysync(*POLICY, "--pipeline-role", "--definition", "/none.json")

    assert "--definition /none.json: [Errno 2] No such file" in refused.refusal
