"""Every command in the European Sovereign Cloud, whose partition is ``aws-eusc``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest

from polysync_airflow.execution.job_pipelines import origin_tags, pipeline_name
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.verify import calls
from tests.conftest import use_connection
from tests.tasks import EmulatedTime
from tests.unit.cli.commands import COMMANDS
from tests.unit.cli.conftest import Polysync

REGION = "eusc-de-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws-eusc:iam::{ACCOUNT}:role/SageMakerRole"
OWNER = ("--account", ACCOUNT)
POLICY = f"--account {ACCOUNT} --region {REGION} --pipeline churn --verify"
TOKEN_OPTIONS = ("--tenant", "T", "--audience", "A", "--subject", "S")
TRUST = f"--account {ACCOUNT} --partition aws-eusc {' '.join(TOKEN_OPTIONS)}"
CHECKS = "--only link --only permission --simulate-policy --open"
CONSOLE = f"https://{REGION}.console.amazonaws-eusc.eu/sagemaker/"
PIPELINE = f"arn:aws-eusc:sagemaker:{REGION}:{ACCOUNT}:pipeline/churn"
ISSUER = "oidc-provider/login.microsoftonline.com/T/v2.0"
# The arguments of each command, and what its result has.
RUNS = {
    "polysync jobs import": ("", f"role_arn: {ROLE}"),
    "polysync jobs diff": ("{catalogue}", ""),
    "polysync pipelines list": ("", "airflow-nightly-train-"),
    "polysync pipelines delete": ("{made} --yes", "deleted"),
    "polysync check": ("", f"Signed in as arn:aws-eusc:sts::{ACCOUNT}:assumed-role/"),
    "polysync executions list": ("--pipeline churn --wide", PIPELINE),
    "polysync executions show": ("{execution}", CONSOLE),
    "polysync executions resume": ("{failed} --yes", "arn:aws-eusc:"),
    "polysync executions stop": ("{execution} --yes", "arn:aws-eusc:"),
    "polysync executions watch": ("{execution}", "Pipeline churn succeeded"),
    "polysync executions logs": ("--follow {execution} A", "Done"),
    "polysync iam policy": (f"{POLICY} --pass-role {ROLE}", PIPELINE),
    "polysync iam trust": (TRUST, f"arn:aws-eusc:iam::{ACCOUNT}:{ISSUER}"),
    "polysync records": ("--dag-id none", "0 Variables"),
    "polysync verify": (
        f"--role-arn {ROLE} {CHECKS}",
        f"{CONSOLE}home?region={REGION}",
    ),
}


@pytest.fixture
def sovereign(
    polysync: Polysync,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    airflow_database: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> dict[str, str]:
    """
    A pipeline, an execution and a catalogue in the region, and the connection there;
    return what commands name.
    """
    monkeypatch.setattr(calls, "time", emulated_time)
    url = emulator.endpoint_url
    use_connection(
        monkeypatch, endpoint_url=url, sts_endpoint_url=url, region_name=REGION
    )
    keys: Any = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "s"}
    sagemaker = boto3.client("sagemaker", region_name=REGION, endpoint_url=url, **keys)
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT", "prod")
    origin = ("prod", "nightly", "train")
    made = pipeline_name(*origin)
    for name in ("churn", made):
        sagemaker.create_pipeline(
            PipelineName=name,
            PipelineDefinition=definition(step("A")),
            RoleArn=ROLE,
            Tags=[{"Key": k, "Value": v} for k, v in origin_tags(*origin).items()],
        )
    catalogue = tmp_path / "jobs.yaml"
    assert polysync("jobs", "import", catalogue).code == 0
    arns = []
    for scenario, seconds in (({"end_as": "Failed"}, 3600), ({}, 5)):
        emulator.control.put_scenario(scenario)
        started = sagemaker.start_pipeline_execution(PipelineName="churn")
        arns.append(started["PipelineExecutionArn"])
        # The step begins.
        emulator.control.advance(seconds)
    names = {"failed": arns[0], "execution": arns[1], "made": made}
    return {"catalogue": str(catalogue), **names}


@pytest.mark.parametrize("command", RUNS)
def test_command_names_nothing_of_another_partition(
    command: str, polysync: Polysync, sovereign: dict[str, str]
) -> None:
    """It succeeds, and names nothing of another partition."""
    arguments, expected = RUNS[command]

    done = polysync(*command.split()[1:], *arguments.format(**sovereign).split())

    assert done.code == 0, done.err
    assert expected in done.out + done.err
    assert "arn:aws:" not in done.out + done.err
    assert "console.aws.amazon.com" not in done.err


def test_policy_has_no_other_partition(polysync: Polysync) -> None:
    """The partition is that of the region, and an ARN of another one is refused."""
    policy = ("iam", "policy", *OWNER, "--pass-role", ROLE)

    done = polysync(*policy, "--region", "eu-central-1")
    chosen = polysync(*policy, "--region", "eu-central-1", "--partition", "aws-eusc")

    problem = f"'{ROLE}' is not in the partition aws of --region or --partition"
    assert done.code == 2
    assert problem in done.err
    assert chosen.code == 0
    assert chosen.document["Statement"][1]["Resource"] == [
        f"arn:aws-eusc:sagemaker:eu-central-1:{ACCOUNT}:pipeline/*"
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ("policy", "--region", "us-*", "--allow-wildcards"),
            "the partition of region 'us-*' is not known: name it with --partition",
        ),
        (
            ("policy", "--region", "eu-centrl-1"),
            "--region 'eu-centrl-1' is not known. Did you mean eu-central-1? If it is",
        ),
        (
            ("trust", *TOKEN_OPTIONS, "--partition", "aws-eu"),
            "--partition 'aws-eu' is no partition of AWS: give one of aws, aws-cn, ",
        ),
    ],
    ids=["region", "misspelt", "partition"],
)
def test_partition_is_one_that_botocore_knows(
    options: tuple[str, ...], problem: str, polysync: Polysync
) -> None:
    """No other one is guessed or accepted."""
    done = polysync("iam", *options, *OWNER)

    assert done.code == 2
    assert problem in done.err


def test_all_commands_are_here() -> None:
    """A new command needs a run in the region. The emulator has no price list."""
    assert {*RUNS, "polysync emulator", "polysync prices"} == set(COMMANDS)
