"""
Permissions: the printed policies are sufficient, and the connection test reports
missing permissions.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from typing import Any

import pytest

from polysync_airflow.auth import iam_policies
from polysync_airflow.cli import main
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncPutPipelineOperator,
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime, Run, run_task
from tests.unit.auth.sign_in.conftest import ACCOUNT, Account, grant, use_connection
from tests.world import deny

POLICY = ("policy", "--account", ACCOUNT, "--region", "us-east-1")
TRUST = ("trust", "--account", ACCOUNT, "--tenant", "T", "--audience", "a")
FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": "no data"}}}}
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Execution"
PIPELINES = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline"
IDENTITY_POLICY = iam_policies.identity_policy(account=ACCOUNT, region="us-east-1")


def printed_document(*arguments: str) -> dict[str, Any]:
    """Run the command, and return the policy document that it prints."""
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["iam", *arguments]) == 0
    document: dict[str, Any] = json.loads(printed.getvalue())
    return document


def start(**arguments: Any) -> Run:
    """Run a task that starts an execution."""
    arguments = {"pipeline_name": "fanout", "poll_interval": 60, **arguments}
    return run_task(PolysyncStartPipelineOperator(task_id="t", **arguments))


def test_printed_policy_is_sufficient(
    user: Account, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    With the printed policy, import, start, wait and stop work; without it, a start is
    denied.
    """
    emulator.control.put_scenario(FAILED_STEP)
    denied = start()
    grant(user, printed_document(*POLICY))

    jobs = run_task(PolysyncListImportOperator(task_id="t"))
    failed = start()
    arn = start(wait_for_completion=False).result
    stopped = run_task(PolysyncStopPipelineOperator(task_id="t", execution_arn=arn))

    assert isinstance(denied.error, SageMakerApiError)
    permission = (
        "Allow sagemaker:StartPipelineExecution on arn:aws:sagemaker:us-east-1:"
    )
    assert permission in str(denied.error)
    assert len(jobs.result) == 5
    assert re.search(r"Step Shard3 failed: .*no data", str(failed.error))
    assert stopped.result == "Cancelled"


def test_policy_for_one_pipeline_imports_this_one(
    user: Account, emulator: EmulatorServer
) -> None:
    """AWS lists the others, too, and does not let them be described."""
    grant(user, printed_document(*POLICY, "--pipeline", "fanout"))

    run = run_task(PolysyncListImportOperator(task_id="t"))

    assert [job["name"] for job in run.result] == ["fanout"]
    assert run.xcoms["not_imported"]["count"] == 4


def test_required_permissions_are_sufficient_without_step_reasons(
    user: Account, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    With the required actions only, the error of a failed execution lacks the reasons of
    the steps.
    """
    emulator.control.put_scenario(FAILED_STEP)
    grant(user, printed_document(*POLICY, "--required-only"))

    run = start()

    assert "could not be listed" in str(run.error)
    assert "sagemaker:ListPipelineExecutionSteps" in str(run.error)


def make_pipelines(deferrable: bool = False) -> list[Run]:
    """Run a task with a job, and one that makes a pipeline."""
    job = PolysyncRunJobOperator(
        task_id="t",
        job_type="Training",
        config=step("A", "Training")["Arguments"],
        job_logs=True,
        poll_interval=60,
        deferrable=deferrable,
    )
    put = PolysyncPutPipelineOperator(
        task_id="t",
        pipeline_name="Churn",
        definition=definition(step("A")),
        role_arn=ROLE,
        pipeline_tags={"team": "a"},
    )
    return [run_task(task) for task in (job, put)]


def policy_for_making() -> dict[str, Any]:
    """Return the policy for the tasks of ``make_pipelines``."""
    names = ("--make-pipeline", "--make-pipeline", "Churn")
    return printed_document(*POLICY, *names, "--pass-role", ROLE)


@IN_BOTH_MODES
def test_tasks_that_make_pipelines_are_denied_nothing(
    deferrable: bool,
    user: Account,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Neither when they create a pipeline, nor when they update it."""
    grant(user, policy_for_making())

    runs = make_pipelines(deferrable) + make_pipelines(deferrable)

    assert [run.error for run in runs] == [None] * 4
    refused = {call["error_code"] for call in emulator.control.calls()}
    assert refused == {None, "ResourceNotFound"}


# The resources that the errors name if the policy lacks one action: that of a task with
# a job, and that of a task which makes a pipeline. None is for no error.
OF_JOB = f"{PIPELINES}/airflow-"
OF_PUT = f"{PIPELINES}/Churn"
LACKING = {
    "iam:PassRole": (ROLE, ROLE),
    "sagemaker:AddTags": (OF_JOB, OF_PUT),
    "sagemaker:CreatePipeline": (OF_JOB, OF_PUT),
    "sagemaker:UpdatePipeline": (OF_JOB, OF_PUT),
    "sagemaker:DescribePipeline": (None, OF_PUT),
    "sagemaker:StartPipelineExecution": (OF_JOB, None),
}


@IN_BOTH_MODES
@pytest.mark.parametrize("action", LACKING)
def test_error_names_the_right_that_tasks_which_make_pipelines_lack(
    action: str,
    deferrable: bool,
    user: Account,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    Also if AWS asks for it when it gets a request for another action; a job that lacks
    it is not started.
    """
    policy = policy_for_making()
    for statement in policy["Statement"]:
        allowed = {*statement["Action"]} - {action}
        statement["Action"] = [*allowed] or ["iam:GetUser"]
    grant(user, policy)

    runs = make_pipelines(deferrable)

    for run, resource in zip(runs, LACKING[action], strict=True):
        cure = str(run.error).partition("What to do: ")[2]
        cure = cure.replace("<account>", ACCOUNT)
        named = f"Allow {action} on {resource}" if resource else ""
        assert cure.startswith(named), str(run.error)
        assert (run.error is None) == (resource is None), run.error
    starts = emulator.control.calls("StartPipelineExecution")
    accepted = [call for call in starts if call["error_code"] is None]
    assert len(accepted) == (runs[0].error is None)


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must refuse a value, and return its error."""
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    assert caught.value.code == 2
    return capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("policy", "--account", "*", "--region", "us-east-1"),
        ("policy", "--account", "1234*", "--region", "us-east-1"),
        ("policy", "--account", ACCOUNT, "--region", "us-*", "--partition", "aws"),
        (*POLICY, "--pipeline", "churn*"),
        (*POLICY, "--pipeline", "ch??n-*-x"),
        (*POLICY, "--pipeline", f"arn:aws:sagemaker:*:{ACCOUNT}:pipeline/churn-*"),
        (*POLICY, "--pipeline", "arn:aws:sagemaker:us-east-1:*:pipeline/churn"),
        (*POLICY, "--pass-role", "arn:aws:iam::*:role/x"),
        (*POLICY, "--property-files", "s3://ml-*/"),
        (*POLICY, "--model-package-group", "churn-*"),
        (*TRUST, "--subject", "*"),
    ],
    ids=" ".join,
)
def test_wildcards_must_be_allowed(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    """
    Wildcards are an error that names the option for them, and are accepted with it.
    """
    problem = "has a wildcard, which allows more than one: add --allow-wildcards"
    assert problem in refusal(capfd, "iam", *arguments)
    main(["iam", *arguments, "--allow-wildcards"])
    assert "Statement" in capfd.readouterr().out


NO_REGION = "is not an AWS region"
NO_GROUP = "is not the name of a model package group"
NO_FOLDER = "is not a folder of S3"
NO_QUEUE = "is no queue: give arn:aws:sqs:"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:approvals"


@pytest.mark.parametrize("allowing", [(), ("--allow-wildcards",)], ids=["", "allowing"])
@pytest.mark.parametrize(
    ("command", "option", "value", "problem"),
    [
        (POLICY, "--account", "12345", "--account '12345' is not an AWS account"),
        (POLICY, "--account", f"{ACCOUNT}3", "is not an AWS account id"),
        (POLICY, "--region", "us-east", f"--region 'us-east' {NO_REGION}"),
        (POLICY, "--region", "US-EAST-1", NO_REGION),
        (POLICY, "--region", "us-east-1a", NO_REGION),
        (POLICY, "--pass-role", "role/x", "--pass-role 'role/x' is no role: give arn:"),
        (POLICY, "--model-package-group", "a_b", f"-group 'a_b' {NO_GROUP}"),
        (POLICY, "--model-package-group", "g" * 64, NO_GROUP),
        # The pattern would allow other folders and buckets, too.
        (POLICY, "--property-files", "s3://ml-bucket", NO_FOLDER),
        (POLICY, "--property-files", "s3://ml-bucket/eval", NO_FOLDER),
        (POLICY, "--property-files", "ml-bucket/eval/", NO_FOLDER),
        (POLICY, "--property-files", "s3:///eval/", NO_FOLDER),
        (POLICY, "--callback-queue", "approvals", NO_QUEUE),
        (
            POLICY,
            "--callback-queue",
            "https://sqs.us-east-1.amazonaws.com/1/q",
            NO_QUEUE,
        ),
        (POLICY, "--callback-queue", f"{QUEUE}/x", NO_QUEUE),
        (POLICY, "--pipeline", "", "--pipeline is empty: give a value"),
        (TRUST, "--subject", "", "is empty"),
    ],
)
def test_values_that_cannot_be_right_are_refused(
    command: tuple[str, ...],
    option: str,
    value: str,
    problem: str,
    allowing: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The error names the option and its value, also where wildcards are allowed."""
    assert problem in refusal(capfd, "iam", *command, option, value, *allowing)


@pytest.mark.parametrize(
    "pipeline",
    [
        "my_pipeline",
        "-churn",
        "churn-",
        "churn tuning",
        "churn\n",
        "churn/execution/abc",
        "x" * 257,
        f"{OF_PUT}/execution/abc",
        f"{PIPELINES}/{OF_PUT}",
        "arn:aws:sagemaker:us-east-1:12345:pipeline/churn",
        "arn:aws:sagemaker:us-east-1::pipeline/churn",
        f"{PIPELINES}/",
        f"{PIPELINES}/{'x' * 257}",
        f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model/churn",
        f"arn:aws:states:us-east-1:{ACCOUNT}:pipeline/churn",
    ],
)
def test_names_that_no_pipeline_can_have_are_refused(
    pipeline: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where wildcards are allowed."""
    problem = (
        f"--pipeline {pipeline!r} is neither the name nor the ARN of a pipeline: give"
        " <name>, or arn:"
    )

    for allowing in ((), ("--allow-wildcards",)):
        arguments = (*POLICY, *allowing, f"--pipeline={pipeline}")
        assert problem in refusal(capfd, "iam", *arguments)


def resources(*pipelines: str) -> list[str]:
    """Return the ARNs of pipelines and executions in the policy for pipelines."""
    options = [word for pipeline in pipelines for word in ("--pipeline", pipeline)]
    document = printed_document(*POLICY, *options, "--pass-role", EXECUTION_ROLE)
    _, pipelines_run, executions_run, *_ = document["Statement"]
    return [*pipelines_run["Resource"], *executions_run["Resource"]]


def test_policy_for_an_arn_has_that_arn() -> None:
    """
    An ARN counts as it is, with both spellings of the name; also one of another account
    or region.
    """
    other = "arn:aws:sagemaker:eu-west-1:210987654321:pipeline/churn"

    named = resources(OF_PUT)
    assert named == resources("Churn")
    # AWS keeps the case of a name in newer ARNs; older ARNs have it in lower case.
    in_lower_case = OF_PUT.lower()
    assert {in_lower_case, f"{in_lower_case}/execution/*"} < set(named)
    own = f"{PIPELINES}/a"
    executions = [f"{other}/execution/*", f"{own}/execution/*"]
    assert resources(other, "a") == [other, own, *executions]


def test_policy_for_a_pipeline_that_aws_manages_needs_a_role(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """
    Its ARN has no account, its executions run in the account of the caller, and each
    start names a role.
    """
    managed = "arn:aws:sagemaker:us-east-1:aws:pipeline/model-eval"

    assert resources(managed) == [
        managed,
        f"{PIPELINES}/model-eval/execution/*",
    ]
    problem = f"--pipeline {managed} needs --pass-role: name the role of the pipelines"
    assert problem in refusal(capfd, "iam", *POLICY, "--pipeline", managed)


@pytest.mark.parametrize(
    ("version", "provider"),
    [
        (("--entra-version", "v1"), "sts.windows.net/T/"),
        (("--entra-version", "v2"), "login.microsoftonline.com/T/v2.0"),
        ((), "login.microsoftonline.com/T/v2.0"),
    ],
)
def test_trust_policy_has_the_issuer_of_the_tenant(
    version: tuple[str, ...], provider: str
) -> None:
    """
    The two token versions of Entra ID have different issuers, one with a slash at the
    end; v2 is the default.
    """
    document = printed_document(*TRUST, "--subject", "SUBJECT", *version)

    (statement,) = document["Statement"]
    assert statement["Principal"] == {
        "Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"
    }
    assert statement["Condition"] == {
        "StringEquals": {f"{provider}:aud": "a", f"{provider}:sub": "SUBJECT"}
    }


def test_connection_test_reports_identity_and_permissions(
    user: Account, emulator: EmulatorServer
) -> None:
    """
    The connection test reports the identity and each permission, and changes nothing.
    """
    grant(user, IDENTITY_POLICY)
    emulator.control.clear_calls()

    success, message = PolysyncSageMakerHook().test_connection()

    assert success, message
    assert f"arn:aws:iam::{ACCOUNT}:user/bootstrap" in message
    assert "us-east-1 with access_key; credentials have no known expiry" in message
    for operation in (
        *iam_policies.LIST_OPERATIONS,
        *iam_policies.REQUIRED_OPERATIONS,
        *iam_policies.OPTIONAL_PIPELINE_OPERATIONS,
        *iam_policies.OPTIONAL_EXECUTION_OPERATIONS,
        *iam_policies.JOB_OPERATIONS,
        *iam_policies.LOG_OPERATIONS,
    ):
        assert f" -- {operation}: granted" in message
    successful = [
        call["operation"]
        for call in emulator.control.calls()
        if call["status"] == 200
        and call["operation"] not in ("GetCallerIdentity", "ListPipelines")
    ]
    assert successful == []


def test_connection_test_reports_missing_permissions(
    user: Account, emulator: EmulatorServer
) -> None:
    """
    Denied operations are reported with a statement that allows them; other errors are
    not a denial.
    """
    policy = iam_policies.identity_policy(
        account=ACCOUNT, region="us-east-1", optional=False
    )
    policy["Statement"][2]["Action"].remove("sagemaker:StopPipelineExecution")
    grant(user, policy)
    emulator.control.add_fault("throttle", "DescribePipeline")

    success, message = PolysyncSageMakerHook().test_connection()

    assert not success
    assert "StopPipelineExecution: denied" in message
    assert "ListPipelineExecutionSteps: denied" in message
    assert "StartPipelineExecution: granted" in message
    assert "DescribePipeline: unknown: ThrottlingException" in message
    missing = json.loads(f"[{message[message.index('{') : message.rindex('}') + 1]}]")
    _, _, executions, *optional = IDENTITY_POLICY["Statement"]
    # The emulator checks no permission for logs.
    assert missing == [
        {**executions, "Action": ["sagemaker:StopPipelineExecution"]},
        *optional[:-2],
    ]


def test_connection_test_reports_missing_log_permissions(
    user: Account, emulator: EmulatorServer
) -> None:
    """
    Denied log permissions are reported with a statement, and the connection can be used
    without them.
    """
    grant(user, IDENTITY_POLICY)
    deny(emulator, *iam_policies.LOG_OPERATIONS, service="logs")

    success, message = PolysyncSageMakerHook().test_connection()

    assert success
    assert "DescribeLogStreams: denied -- GetLogEvents: denied" in message
    missing = json.loads(f"[{message[message.index('{') : message.rindex('}') + 1]}]")
    assert missing == IDENTITY_POLICY["Statement"][-2:]


def test_connection_test_reports_failed_sign_in(
    user: Account, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If the key is invalid or the connection is incomplete, the report is the error only.
    """
    emulator.control.add_fault(
        "error", "GetCallerIdentity", code="InvalidClientTokenId", message="invalid"
    )
    success, message = PolysyncSageMakerHook().test_connection()
    use_connection(monkeypatch, emulator.endpoint_url, auth_method="assume_role")
    incomplete_success, incomplete_message = PolysyncSageMakerHook().test_connection()

    assert (success, incomplete_success) == (False, False)
    assert "InvalidClientTokenId" in message
    assert "role_arn: Field required" in incomplete_message
