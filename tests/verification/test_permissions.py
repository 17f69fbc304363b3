"""The permissions of a run: the printed policy is sufficient, and whose policies IAM simulates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.aws.sessions import is_aws_endpoint
from polysync_airflow.cli import main
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.verification import cleaning, runner
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.arguments import Options
from polysync_airflow.verification.beliefs.permissions import policy_source
from polysync_airflow.verification.catalogue import choose
from polysync_airflow.verification.hook import VerifyHook
from polysync_airflow.verification.models import NotCheckedError, Verdict
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.events.conftest import client, make_queue
from tests.tasks import EmulatedTime
from tests.verification.conftest import ROLE, RUN_ID, names
from tests.verification.test_emulator_agrees import OLD_BOTO3

ACCOUNT = "123456789012"
# Checks that together call all operations.
ALL_OPERATIONS = [
    "callback",
    "list.pages",
    "parameter.as-sent",
    "resume.shown-definition",
    "start.by-arn",
    "stop.delete",
]
POLICY = ["iam", "policy", "--account", ACCOUNT, "--region", "us-east-1", "--pipeline", "churn"]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Return the policy that the command prints."""
    capsys.readouterr()
    assert main([*POLICY, *arguments]) == 0
    policy: dict[str, Any] = json.loads(capsys.readouterr().out)
    return policy


def sign_in(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any]) -> VerifyHook:
    """Sign in as a user with a policy, in an account that enforces policies."""
    iam = client(emulator, "iam")
    iam.create_user(UserName="verifier")
    key = iam.create_access_key(UserName="verifier")["AccessKey"]
    iam.put_user_policy(UserName="verifier", PolicyName="granted", PolicyDocument=json.dumps(policy))
    emulator.control.set_sign_in(enforce_iam=True)
    url = emulator.endpoint_url
    value = connection(
        login=key["AccessKeyId"], password=key["SecretAccessKey"], endpoint_url=url, sts_endpoint_url=url
    )
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)
    return VerifyHook()


def test_printed_policy_is_sufficient(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It allows each operation of the checks and of the deletion, though it allows tasks one other pipeline only."""
    queue = make_queue(emulator)
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue.name}"
    options = ("--verify", "--pass-role", ROLE, "--callback-queue", arn)
    hook = sign_in(emulator, monkeypatch, printed(capsys, *options))
    account = Account(hook, ROLE, RUN_ID, Options(queue_url=queue.url))

    results = runner.run(choose(ALL_OPERATIONS), account, workers=1)

    unexpected = [r for r in results if r.verdict != Verdict.AS_BELIEVED and not r.seen.startswith(OLD_BOTO3)]
    assert [(r.belief.id, r.seen) for r in unexpected] == []
    found, _ = cleaning.leftovers(hook)
    assert set(found) == names(emulator) != set()
    assert cleaning.delete_pipelines(hook, found) == {}
    assert names(emulator) == set()
    # That of a job, which costs money, is one of those that tasks call, too.
    called = {call["operation"] for call in emulator.control.calls()}
    assert {*VerifyHook.client_operations} - called == {"DescribeProcessingJob"}

    account = Account(hook, ROLE, RUN_ID, Options(simulate_policy=True))
    (simulated,) = runner.run(choose(["permission"]), account)
    # The simulation is allowed; what it finds is that tasks may start one pipeline only.
    assert (simulated.verdict, simulated.seen[:7]) == (Verdict.DIFFERS, "denied:")


def test_without_the_option(
    emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The policy of tasks does not allow to create, change or delete pipelines."""
    policy = printed(capsys, "--pass-role", ROLE)
    account = Account(sign_in(emulator, monkeypatch, policy), ROLE, RUN_ID)

    results = runner.run(choose(["outcome"]), account)

    assert {(r.verdict, r.seen) for r in results} == {
        (Verdict.NOT_CHECKED, "no permission for CreatePipeline")
    }
    assert "DeletePipeline" not in json.dumps(policy)
    assert "iam:Simulate" not in json.dumps(identity_policy())


def test_option_needs_a_role(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the role that CreatePipeline passes, the policy would not be sufficient."""
    with pytest.raises(SystemExit):
        main([*POLICY, "--verify"])

    assert "--verify needs --pass-role: name the role of the pipelines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("identity", "source"),
    [
        (f"arn:aws:iam::{ACCOUNT}:user/teams/me", f"arn:aws:iam::{ACCOUNT}:user/teams/me"),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/Airflow/i-0123", f"arn:aws:iam::{ACCOUNT}:role/Airflow"),
        (f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/A/b", f"arn:aws-cn:iam::{ACCOUNT}:role/A"),
    ],
)
def test_policy_source(identity: str, source: str) -> None:
    """The policies are those of the user, or of the role of the session."""
    assert policy_source(identity) == source


@pytest.mark.parametrize(
    "identity", [f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:sts::{ACCOUNT}:federated-user/me"]
)
def test_other_identities(identity: str) -> None:
    """IAM cannot simulate those of the root, or of a federated user."""
    with pytest.raises(NotCheckedError, match="neither a user nor a role"):
        policy_source(identity)


def test_endpoint_of_iam_is_checked_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever edits a connection of type aws cannot send requests to IAM to another host; tasks do not call it."""
    config = {"iam": {"endpoint_url": "https://evil.example"}}
    extra = {"region_name": "us-east-1", "service_config": config}
    value = {"conn_type": "aws", "login": "AKIAEXAMPLE", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(value))
    hook = VerifyHook("aws")

    assert hook.client_region == "us-east-1"
    with pytest.raises(CredentialsError, match=r"service_config\.iam\.endpoint_url"):
        _ = hook.iam_client


def test_endpoints_of_iam_are_ones_of_aws() -> None:
    """IAM has one address for all regions of a partition."""
    assert is_aws_endpoint("iam.amazonaws.com")
    assert not is_aws_endpoint("iam.evil.example")
