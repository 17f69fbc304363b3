"""What the provider may do: the policy it prints is enough and no more, and the Test button tells the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from polysync_airflow.auth import iam_policies
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from tests.auth.sign_in.conftest import ACCOUNT, FOLDERS, Account, use_connection
from tests.tasks import EmulatedTime, run_task

EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Execution"


def printed(*arguments: str) -> dict[str, Any]:
    """Run the command and return the document that it prints."""
    command = [sys.executable, "-m", "polysync_airflow.iam", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture
def user(
    account: Account, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Account:
    """A user without any permission as ``polysync_default``, in an account that enforces IAM's policies."""
    login, password = account.user()
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    use_connection(
        monkeypatch, emulator.endpoint_url, auth_method="access_key", login=login, password=password
    )
    emulator.control.set_sign_in(enforce_iam=True)
    return account


def grant(account: Account, policy: dict[str, Any]) -> None:
    """Give the user a policy."""
    account.iam.put_user_policy(UserName="bootstrap", PolicyName="granted", PolicyDocument=json.dumps(policy))


def test_the_printed_policy_is_enough_for_everything(
    user: Account, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Import, start, wait, the failed steps' reasons and a stop work with it, and nothing works without."""
    emulator.control.put_scenario({"steps": {"Shard1": {"fail": {"reason": "no data"}}}})
    start: dict[str, Any] = {"pipeline_name": "fanout", "poll_interval": 60}
    refused = run_task(PolysyncStartPipelineOperator(task_id="t", **start))
    grant(user, printed("policy", "--account", ACCOUNT, "--region", "us-east-1"))

    jobs = run_task(PolysyncListImportOperator(task_id="t"))
    failed = run_task(PolysyncStartPipelineOperator(task_id="t", **start))
    running = run_task(PolysyncStartPipelineOperator(task_id="t", wait_for_completion=False, **start))
    stopped = run_task(PolysyncStopPipelineOperator(task_id="t", execution_arn=running.result))

    assert isinstance(refused.error, SageMakerApiError)
    assert "Allow sagemaker:StartPipelineExecution on arn:aws:sagemaker:us-east-1:" in str(refused.error)
    assert len(jobs.result) == 5
    assert re.search(r"Shard1: .*no data", str(failed.error))
    assert stopped.result == "Cancelled"


def test_a_policy_for_some_pipelines_allows_no_others(
    user: Account, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Names are written in lower case, executions are included, and other pipelines stay closed."""
    grant(user, printed("policy", "--account", ACCOUNT, "--region", "us-east-1", "--pipeline", "FanOut"))

    allowed = run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", poll_interval=60))
    other = run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="churn-tuning"))

    assert allowed.xcoms["state"] == "Success"
    assert isinstance(other.error, SageMakerApiError)
    assert other.error.error_code == "AccessDeniedException"


def test_what_is_optional_is_only_missed_in_messages(
    user: Account, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With the required actions alone a failure is told without the steps' own reasons."""
    emulator.control.put_scenario({"steps": {"Shard1": {"fail": {"reason": "no data"}}}})
    grant(user, printed("policy", "--account", ACCOUNT, "--region", "us-east-1", "--required-only"))

    run = run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", poll_interval=60))

    assert "could not be listed" in str(run.error)
    assert "sagemaker:ListPipelineExecutionSteps" in str(run.error)


def test_pass_role_is_granted_on_request_only() -> None:
    """A role is passed to SageMaker and to nobody else, and only if it was named."""
    without = iam_policies.identity_policy()
    passing = iam_policies.identity_policy(pass_roles=[EXECUTION_ROLE])

    assert "PassRole" not in json.dumps(without)
    assert passing["Statement"][-1] == {
        "Sid": "PassExecutionRole",
        "Effect": "Allow",
        "Action": ["iam:PassRole"],
        "Resource": [EXECUTION_ROLE],
        "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    }


@pytest.mark.parametrize(
    ("version", "provider"),
    [("v1", "sts.windows.net/TENANT/"), ("v2", "login.microsoftonline.com/TENANT/v2.0")],
)
def test_the_trust_policy_names_the_tenants_issuer(version: str, provider: str) -> None:
    """Entra's two token versions have two issuers, one of them with a slash at its end."""
    document = printed(
        *("trust", "--account", ACCOUNT, "--tenant", "TENANT", "--audience", "api://polysync"),
        *("--subject", "SUBJECT", "--entra-version", version),
    )

    (statement,) = document["Statement"]
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"}
    assert statement["Condition"] == {
        "StringEquals": {f"{provider}:aud": "api://polysync", f"{provider}:sub": "SUBJECT"}
    }


def test_the_test_button_tells_who_and_what_is_granted(user: Account, emulator: EmulatorServer) -> None:
    """Identity, account, region, way and expiry; then each action; nothing is started, stopped or changed."""
    grant(user, iam_policies.identity_policy(account=ACCOUNT, region="us-east-1"))
    emulator.control.clear_calls()

    good, message = PolysyncSageMakerHook().test_connection()

    assert good, message
    assert f"arn:aws:iam::{ACCOUNT}:user/bootstrap" in message
    assert "us-east-1 by access_key, without expiry" in message
    for operation in (*iam_policies.LISTING, *iam_policies.REQUIRED, *iam_policies.OPTIONAL):
        assert f"{operation}: granted" in message
    changed = [
        call["operation"]
        for call in emulator.control.calls()
        if call["status"] == 200 and call["operation"] not in ("GetCallerIdentity", "ListPipelines")
    ]
    assert changed == []


def test_the_test_button_tells_what_is_missing(user: Account, emulator: EmulatorServer) -> None:
    """Denied actions come with the statement that would allow them; trouble is no denial."""
    policy = iam_policies.identity_policy(account=ACCOUNT, region="us-east-1", optional=False)
    policy["Statement"][1]["Action"].remove("sagemaker:StopPipelineExecution")
    grant(user, policy)
    emulator.control.add_fault("throttle", "DescribePipeline")

    good, message = PolysyncSageMakerHook().test_connection()

    assert not good
    assert "StopPipelineExecution: denied" in message
    assert "ListPipelineExecutionSteps: denied" in message
    assert "StartPipelineExecution: granted" in message
    assert "DescribePipeline: could not be told: ThrottlingException" in message
    statement = json.loads(message[message.index("{") : message.rindex("}") + 1])
    assert statement == iam_policies.missing_statement(
        ["StopPipelineExecution", *iam_policies.OPTIONAL],
        f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/*",
    )


def test_the_test_button_tells_why_signing_in_fails(
    user: Account, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that AWS does not take, or a connection that is not complete, is the whole report."""
    emulator.control.add_fault("error", "GetCallerIdentity", code="InvalidClientTokenId", message="invalid")
    good, message = PolysyncSageMakerHook().test_connection()
    use_connection(monkeypatch, emulator.endpoint_url, auth_method="assume_role")
    incomplete, missing = PolysyncSageMakerHook().test_connection()

    assert (good, incomplete) == (False, False)
    assert "InvalidClientTokenId" in message
    assert "role_arn: Field required" in missing
