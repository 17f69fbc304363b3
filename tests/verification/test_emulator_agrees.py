"""The emulator does what is believed of AWS: the same checks that run against an account find no difference."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.verification import definitions, runner
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.arguments import Options
from polysync_airflow.verification.beliefs.messages import inbox
from polysync_airflow.verification.beliefs.messages.inbox import Inbox
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.catalogue import BELIEFS, choose
from polysync_airflow.verification.models import Result, Verdict
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE as EMULATED_ROLE
from tests.events.conftest import client, make_queue
from tests.tasks import EmulatedTime
from tests.verification.conftest import MakeAccount, names

# What the oldest boto3 cannot send is not checked.
OLD_BOTO3 = "the installed boto3 does not know"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
OTHER_EXECUTION = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abcdefghijkl"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tools:1"


def by_id(results: list[Result]) -> dict[str, Result]:
    """Return results by the ids of their beliefs."""
    return {result.belief.id: result for result in results}


def test_all_checks(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """Each check sees what is believed, and nothing that the checks have made is left."""
    queue = make_queue(emulator)
    queue.send("not an event", json.dumps({"pipelineExecutionArn": OTHER_EXECUTION, "token": "abcdefghij"}))
    account = make_account(Options(job_image=IMAGE, queue_url=queue.url, simulate_policy=True))
    told: list[Result] = []

    # Messages come first, as long as there are few. One after the other: the emulated time is that of all threads.
    beliefs = sorted(BELIEFS, key=lambda belief: (belief.option != "--queue-url", belief.subject))
    results = runner.run(beliefs, account, workers=1, on_result=told.append)

    unexpected = [r for r in results if r.verdict != Verdict.AS_BELIEVED and not r.seen.startswith(OLD_BOTO3)]
    assert [(r.belief.id, r.verdict, r.seen, r.detail) for r in unexpected] == []
    assert [result.belief for result in results] == beliefs
    assert told == results
    assert all(name.startswith("polysync-verify-0123abcd-") for name in names(emulator))
    assert_costs_nothing(emulator, account)
    assert names(emulator)
    assert account.clean() == {}
    assert names(emulator) == set()
    # Messages about others are given back.
    assert queue.size[0] >= 2
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


def assert_costs_nothing(emulator: EmulatorServer, account: Account) -> None:
    """Without options, no step is one that AWS bills: a Lambda step costs nothing if there is no such function."""
    optional = {account.name_of(f"callback{end}") for end in ("", "-failed", "-stopped")} | {
        account.name_of("job")
    }
    requests = [
        call["request"] for call in emulator.control.calls() if "PipelineDefinition" in call["request"]
    ]
    sent = [each["PipelineDefinition"] for each in requests if each["PipelineName"] not in optional]
    text = " ".join(sent)
    kinds = set(re.findall(r'"Type": "([A-Z]\w+)", "(?:Arguments|FunctionArn)"', text))
    assert kinds == {"Condition", "Fail", "Lambda"}
    functions = set(re.findall(r'"FunctionArn": "([^"]*)"', text))
    prefix = "arn:aws:lambda:us-east-1:123456789012:function:polysync-no-such-function"
    assert {name.removeprefix(prefix) for name in functions} == {"", "-after-update"}
    # Otherwise AWS makes an experiment of each pipeline, and keeps it when the pipeline is deleted.
    assert [each for each in sent if '"PipelineExperimentConfig": null' not in each] == []


def test_options_that_are_not_given(make_account: MakeAccount) -> None:
    """What costs money, or needs more than the account, is checked on demand only."""
    beliefs = [belief for belief in BELIEFS if belief.option]

    results = runner.run(beliefs, make_account())

    assert len(beliefs) > 5
    assert {(r.verdict, r.seen) for r in results} == {
        (Verdict.NOT_CHECKED, f"{option} is not given")
        for option in ("--with-job", "--queue-url", "--simulate-policy")
    }


def test_queue_without_a_rule(
    make_account: MakeAccount, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rule of the queue may leave out is not checked, with how to change that; the end of an execution differs."""
    monkeypatch.setattr(inbox, "_PAUSE_SECONDS", 5)
    url = client(emulator, "sqs").create_queue(QueueName="quiet")["QueueUrl"]

    found = by_id(runner.run(choose(["event"]), make_account(Options(queue_url=url)), workers=1))

    for name, option in (("begin", "--running"), ("step", "--steps"), ("step-members", "--steps")):
        result = found.pop(f"event.{name}")
        assert result.verdict == Verdict.NOT_CHECKED
        assert f"polysync events setup {option}" in result.seen
    assert {(result.verdict, result.seen) for result in found.values()} == {(Verdict.DIFFERS, "no event")}


@pytest.mark.parametrize("seconds", [0, 3])
def test_role_that_may_not_send(
    seconds: int, make_account: MakeAccount, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback step whose message cannot be sent fails, at once or later: nothing is concluded from that."""
    monkeypatch.setattr(Inbox, "about", lambda self, arn: [])
    failure = {"duration": seconds, "fail": {"reason": "The role may not"}}
    emulator.control.put_scenario({"steps": {"Ask": failure}})
    url = client(emulator, "sqs").create_queue(QueueName="answers")["QueueUrl"]
    account = make_account(Options(queue_url=url))

    found = by_id(runner.run(choose(["callback"]), account, workers=1))

    assert found.pop("callback.unknown-token").verdict == Verdict.AS_BELIEVED
    reason = "the step has ended: The role may not; may the role send messages to the queue?"
    assert {(result.verdict, result.seen) for result in found.values()} == {(Verdict.NOT_CHECKED, reason)}


def test_nobody_may_answer(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """Without the permission to answer, no callback step is started, which could not be ended."""
    answer = "SendPipelineExecutionStepFailure"
    emulator.control.add_fault("error", answer, code="AccessDeniedException", message="no")
    account = make_account(Options(queue_url="https://sqs.us-east-1.amazonaws.com/123456789012/answers"))

    found = by_id(runner.run(choose(["callback"]), account, workers=1))

    assert found.pop("callback.unknown-token").verdict == Verdict.AS_BELIEVED
    assert {result.seen for result in found.values()} == {f"no permission for {answer}"}
    assert names(emulator) == set()


def test_missing_permissions(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A check without a permission names it; the others are made, and what was made is deleted all the same."""
    for operation in ("RetryPipelineExecution", "ListPipelineExecutions"):
        emulator.control.add_fault("error", operation, code="AccessDeniedException", message="no")
    account = make_account()

    found = by_id(
        runner.run(choose(["resume.repeated", "outcome.statuses", "start.count"]), account, workers=1)
    )

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


def test_conflicts_are_answers(make_account: MakeAccount, emulated_time: EmulatedTime) -> None:
    """The checks want to see them, so they are not waited for."""
    account = make_account()
    name = account.create("delete", definitions.chain())
    account.start(name)

    answer = account.attempt("DeletePipeline", PipelineName=name)

    assert isinstance(answer, Refusal)
    assert answer.code == "ConflictException"
    assert sum(emulated_time.slept) < 1


@pytest.mark.parametrize("kind", ["throttle", "http"])
def test_lasting_errors(kind: str, make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A service that does not answer is an error of each check that needs it, not a difference."""
    emulator.control.add_fault(kind, "CreatePipeline")

    results = runner.run(choose(["outcome", "link"]), make_account(), workers=1)

    assert {result.verdict for result in results} == {Verdict.ERROR}


def test_execution_that_does_not_end(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A check does not wait forever, and says what it has seen last."""
    emulator.control.put_scenario({"statuses": [{"status": "Executing", "after": 0, "until": None}]})
    account = make_account()
    arn = account.start(account.create("succeeds", definitions.succeeding()))

    with pytest.raises(PolysyncError, match="did not come within 10 s; last seen: Executing"):
        account.wait_for_end(arn, 10)
