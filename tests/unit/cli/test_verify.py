"""``polysync verify``: how it signs in, and what the provider tells the checks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.cli.verify import sign_in
from polysync_airflow.exceptions import CredentialsError
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.verify import calls, runner
from sagemaker_emulator.verify.cleaning import PREFIX
from sagemaker_emulator.verify.session import CONFIG
from tests.conftest import use_connection
from tests.tasks import EmulatedTime
from tests.unit.cli.conftest import Polysync
from tests.unit.events.conftest import client, make_queue

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Pipelines"
VERIFY = ("verify", "--role-arn", ROLE)
POLICY = [
    "iam",
    "policy",
    f"--account={ACCOUNT}",
    "--region=us-east-1",
]
# Checks that together call all operations, except for those of a job.
ALL_OPERATIONS = (
    "callback",
    "list",
    "parameter.as-sent",
    "resume.shown-definition",
    "start.by-arn",
    "stop.delete",
)
SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.fixture(autouse=True)
def _emulated_time(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "time", emulated_time)
    # The clock is one for all checks: beside others, a check would see their waits as
    # its own.
    monkeypatch.setattr(
        runner, "ThreadPoolExecutor", lambda _, **names: ThreadPoolExecutor(1, **names)
    )


def sign_in_as(
    emulator: EmulatorServer,
    polysync: Polysync,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
) -> None:
    """
    Sign in as a user with the policy that is printed, in an account that enforces
    policies.
    """
    policy = polysync(*POLICY, *options).out
    iam = client(emulator, "iam")
    iam.create_user(UserName="verifier")
    key = iam.create_access_key(UserName="verifier")["AccessKey"]
    names = {"UserName": "verifier", "PolicyName": "granted"}
    iam.put_user_policy(**names, PolicyDocument=policy)
    emulator.control.set_sign_in(enforce_iam=True)
    url = emulator.endpoint_url
    keys = {"login": key["AccessKeyId"], "password": key["SecretAccessKey"]}
    use_connection(monkeypatch, **keys, endpoint_url=url, sts_endpoint_url=url)


def test_run_checks_links_and_permissions_and_shows_no_secret(
    polysync: Polysync, emulator: EmulatorServer, tmp_path: Any
) -> None:
    """
    It signs in with the connection, whose secrets nobody sees, and checks the links and
    permissions of the provider.
    """
    report = tmp_path / "report.json"

    checks = ("--only=link", "--only=permission", "--simulate-policy", "--open")
    result = polysync(*VERIFY, *checks, "--report", report)

    assert result.code == 0
    assert result.error == "2 checks: 2 as believed."
    console = "https://us-east-1.console.aws.amazon.com/sagemaker/home"
    assert f"{console}?region=us-east-1#/pipelines/" in result.err
    document = json.loads(report.read_text())
    assert document["sign_in"] == "access_key"
    assert document["endpoint"] == "not one of AWS"
    assert {"polysync_airflow", "apache_airflow", "boto3"} < {*document}
    assert "emulated-secret-key" not in result.err + report.read_text()
    pipelines = emulator.pipelines["us-east-1"]
    assert not any(name.startswith(PREFIX) for name in pipelines)
    calls_of_iam = emulator.control.calls("SimulatePrincipalPolicy")
    asked = [call["request"] for call in calls_of_iam]
    actions = {action for call in asked for action in call["ActionNames"]}
    policy = identity_policy(account=ACCOUNT, region="us-east-1")
    allowed = [set(statement["Action"]) for statement in policy["Statement"]]
    assert actions == set().union(*allowed)
    describe = "sagemaker:DescribeEndpoint"
    (call,) = [call for call in asked if describe in call["ActionNames"]]
    endpoint = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/polysync-verify"
    assert call["ResourceArns"] == [endpoint]


def test_printed_policy_is_sufficient(
    polysync: Polysync, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It allows each operation of the checks and of the deletion, and nothing of a
    pipeline that has another name.
    """
    queue = make_queue(emulator)
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue.name}"
    verifier = f"arn:aws:iam::{ACCOUNT}:user/verifier"
    options = ("--verify", "--pass-role", ROLE, "--callback-queue", arn)
    simulation = ("--simulate-policy", verifier)
    sign_in_as(emulator, polysync, monkeypatch, *options, *simulation)
    checks = [word for name in ALL_OPERATIONS for word in ("--only", name)]

    result = polysync(*VERIFY, *checks, "--queue-url", queue.url)

    assert result.code == 0, result.out
    assert "no permission" not in result.out
    assert "is still there" not in result.err
    # What the simulation finds is that tasks may start no pipeline.
    simulated = polysync(*VERIFY, "--only", "permission", "--simulate-policy")
    assert simulated.code == 1
    assert "sagemaker:StartPipelineExecution" in simulated.out


def test_verify_option_of_the_policy_needs_a_role(polysync: Polysync) -> None:
    """
    Without the role that CreatePipeline passes, the policy would not be sufficient.
    """
    result = polysync(*POLICY, "--verify")

    assert "--verify needs --pass-role: name the role of the pipelines" in result.err


def test_missing_connection_is_an_error_of_one_line(
    polysync: Polysync,
) -> None:
    """It is an error of one line."""
    result = polysync(*VERIFY, "--conn-id", "missing")

    assert "'missing': there is no such connection" in result.refusal


def test_connection_of_type_aws_hides_its_secrets_and_checks_its_endpoints(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its secrets are known; whoever edits it cannot send requests to IAM to another host.
    """
    hosts = {"iam": "https://evil.example", "sts": emulator.endpoint_url}
    config = {service: {"endpoint_url": url} for service, url in hosts.items()}
    secrets = {"password": SECRET, "aws_session_token": "token-of-a-session"}
    use_connection(
        monkeypatch, "of_aws", conn_type="aws", **secrets, service_config=config
    )

    session = sign_in("of_aws", None, CONFIG)

    assert session["secrets"] == [SECRET, "token-of-a-session"]
    with pytest.raises(CredentialsError, match=r"service_config\.iam\.endpoint_url"):
        session["client"]("iam")
