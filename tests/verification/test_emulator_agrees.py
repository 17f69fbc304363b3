"""The emulator does what is believed of AWS: the same checks that run against an account find no difference."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.verification import runner
from polysync_airflow.verification.account import Options
from polysync_airflow.verification.catalogue import BELIEFS, choose
from polysync_airflow.verification.models import Result, Verdict
from tests.emulator.builders import ROLE as EMULATED_ROLE
from tests.events.conftest import client, make_queue
from tests.verification.conftest import MakeAccount, names

# What the oldest boto3 cannot send is not checked.
OLD_BOTO3 = "the installed boto3 does not know"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tools:1"


def by_id(results: list[Result]) -> dict[str, Result]:
    """Return results by the ids of their beliefs."""
    return {result.belief.id: result for result in results}


def test_all_checks(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """Each check sees what is believed, and nothing that the checks have made is left."""
    queue = make_queue(emulator)
    account = make_account(Options(job_image=IMAGE, queue_url=queue.url, simulate_policy=True))
    told: list[Result] = []

    # Events come first, as long as there are few. One after the other: the emulated time is that of all threads.
    beliefs = sorted(BELIEFS, key=lambda belief: belief.subject)
    results = runner.run(beliefs, account, workers=1, on_result=told.append)

    unexpected = [r for r in results if r.verdict != Verdict.AS_BELIEVED and not r.seen.startswith(OLD_BOTO3)]
    assert [(r.belief.id, r.verdict, r.seen, r.detail) for r in unexpected] == []
    assert [result.belief for result in results] == beliefs
    assert told == results
    assert names(emulator)
    assert account.clean() == {}
    assert names(emulator) == set()
    # Messages about others are given back.
    assert queue.size[1] == 0
    simulated = [call["request"] for call in emulator.control.calls("SimulatePrincipalPolicy")]
    asked = {pair for call in simulated for pair in product(call["ActionNames"], call["ResourceArns"])}
    policy = identity_policy(account="123456789012", region="us-east-1")
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert {action for action, _ in asked} == actions
    assert {call["PolicySourceArn"] for call in simulated} == {EMULATED_ROLE}
    assert (
        "sagemaker:DescribeEndpoint",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/polysync-verify",
    ) in asked
    assert all("*" not in resource or resource == "*" for _, resource in asked)


def test_only_conditions_and_failures(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """Without --with-job, no step is one that AWS bills, and all names begin with the same words."""
    account = make_account()
    runner.run(choose(["stop", "resume", "selection", "outcome"]), account, workers=1)

    definitions = [
        call["request"]["PipelineDefinition"]
        for call in emulator.control.calls()
        if call["operation"] in ("CreatePipeline", "UpdatePipeline")
    ]

    assert set(re.findall(r'"Type": "(\w+)", "Arguments"', " ".join(definitions))) == {"Condition", "Fail"}
    # Otherwise AWS makes an experiment of each pipeline, and keeps it when the pipeline is deleted.
    assert [text for text in definitions if '"PipelineExperimentConfig": null' not in text] == []
    assert all(name.startswith("polysync-verify-0123abcd-") for name in names(emulator))


def test_options_that_are_not_given(make_account: MakeAccount) -> None:
    """What costs money, or needs more than the account, is checked on demand only."""
    beliefs = [belief for belief in BELIEFS if belief.option]

    results = runner.run(beliefs, make_account())

    assert len(beliefs) > 5
    assert {(r.verdict, r.seen) for r in results} == {
        (Verdict.NOT_CHECKED, f"{option} is not given")
        for option in ("--with-job", "--queue-url", "--simulate-policy")
    }


def test_missing_permissions(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A check without a permission names it; the others are made, and what was made is deleted all the same."""
    for operation in ("RetryPipelineExecution", "ListPipelineExecutions"):
        emulator.control.add_fault("error", operation, code="AccessDeniedException", message="no")
    account = make_account()

    found = by_id(runner.run(choose(["resume", "outcome", "start.count"]), account, workers=1))

    assert found["resume.repeated"].verdict == Verdict.NOT_CHECKED
    assert found["resume.repeated"].seen == "no permission for RetryPipelineExecution"
    assert "sagemaker:RetryPipelineExecution" in found["resume.repeated"].detail
    assert found["start.count"].seen == "no permission for ListPipelineExecutions"
    assert {r.verdict for r in found.values() if r.belief.subject == "outcome"} == {Verdict.AS_BELIEVED}
    assert account.clean() == {}
    assert names(emulator) == set()


def test_denied_action_of_the_policy(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """An action that the identity may not do is named, with what to do."""
    denied = {"Effect": "Deny", "Action": "sagemaker:StopPipelineExecution", "Resource": "*"}
    client(emulator, "iam").put_role_policy(
        RoleName="SageMakerRole",
        PolicyName="denied",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [denied]}),
    )

    (result,) = runner.run(choose(["permission"]), make_account(Options(simulate_policy=True)))

    assert (result.verdict, result.seen) == (Verdict.DIFFERS, "denied: sagemaker:StopPipelineExecution")
    assert result.detail.startswith("Allow sagemaker:StopPipelineExecution on arn:aws:sagemaker:us-east-1:")


def test_policies_that_cannot_be_simulated(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """The ARN of a session does not have the path of its role, so IAM may not find the role."""
    iam = client(emulator, "iam")
    for policy in iam.list_role_policies(RoleName="SageMakerRole")["PolicyNames"]:
        iam.delete_role_policy(RoleName="SageMakerRole", PolicyName=policy)
    iam.delete_role(RoleName="SageMakerRole")
    iam.create_role(RoleName="SageMakerRole", Path="/service-role/", AssumeRolePolicyDocument=TRUST)

    (result,) = runner.run(choose(["permission"]), make_account(Options(simulate_policy=True)))

    assert result.verdict == Verdict.NOT_CHECKED
    assert result.seen == "IAM does not find the role: one with a path cannot be simulated"


def test_throttling_and_a_full_quota_are_waited_for(
    make_account: MakeAccount, emulator: EmulatorServer
) -> None:
    """Neither is an answer of AWS to what is checked."""
    emulator.control.add_fault("throttle", "CreatePipeline", count=2)
    full = {"code": "ResourceLimitExceeded", "message": "The account-level service limit is 20"}
    emulator.control.add_fault("error", "StartPipelineExecution", count=2, **full)

    results = runner.run(choose(["outcome.statuses"]), make_account())

    assert [result.verdict for result in results] == [Verdict.AS_BELIEVED]


@pytest.mark.parametrize("kind", ["throttle", "http"])
def test_lasting_errors(kind: str, make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A service that does not answer is an error of each check that needs it, not a difference."""
    emulator.control.add_fault(kind, "CreatePipeline")

    results = runner.run(choose(["outcome", "link"]), make_account(), workers=1)

    assert {result.verdict for result in results} == {Verdict.ERROR}


def test_execution_that_does_not_end(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A check waits three minutes at most, and says what it has seen last."""
    emulator.control.put_scenario({"statuses": [{"status": "Executing", "after": 0, "until": None}]})

    (result,) = runner.run(choose(["outcome.fail-step"]), make_account())

    assert result.verdict == Verdict.ERROR
    assert result.seen == "The end of an execution did not come within 180 s; last seen: Executing"
