"""
The emulator does what is believed of AWS: the same checks that run against an account
find no difference.
"""

from __future__ import annotations

import json
import re

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE as EMULATED_ROLE
from sagemaker_emulator.verify import definitions, runner
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import (
    BELIEFS,
    NotCheckedError,
    Result,
    Verdict,
    VerifyError,
    choose,
)
from sagemaker_emulator.verify.scenarios import inbox
from sagemaker_emulator.verify.scenarios.inbox import Inbox
from sagemaker_emulator.verify.scenarios.permissions import policy_source
from tests.conftest import ClientOf
from tests.sagemaker.test_status_events import make_rule
from tests.verify.conftest import EmulatedTime, MakeAccount, names

ACCOUNT = "123456789012"
QUEUE = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/answers"
OTHER_EXECUTION = (
    f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/churn/execution/abcdefghijkl"
)
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/tools:1"
# What the oldest boto3 cannot send is not checked.
OLD_BOTO3 = "the installed boto3 does not know"
DENIED = {"code": "AccessDeniedException", "message": "no"}
STOP = (
    "sagemaker:StopPipelineExecution",
    f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/*",
)


def link(arn: str, name: str) -> str:
    """Return a link to an execution."""
    return f"https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/pipelines/{name}/{arn}"


def by_id(results: list[Result]) -> dict[str, Result]:
    """Return results by the ids of their beliefs."""
    return {result.belief.id: result for result in results}


def test_all_checks(
    make_account: MakeAccount, server: EmulatorServer, client_of: ClientOf
) -> None:
    """
    Each check sees what is believed, and nothing that the checks have made is left.
    """
    sqs, queue = client_of("sqs"), make_rule(client_of, "events")
    for body in (
        "not an event",
        json.dumps({"pipelineExecutionArn": OTHER_EXECUTION, "token": "abcdefghij"}),
    ):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    options = {"--with-job": IMAGE, "--queue-url": queue, "--simulate-policy": "yes"}
    account = make_account(
        options, permissions=lambda region: [STOP], execution_link=link
    )
    server.control.put_scenario({"event_copies": 2})
    told: list[Result] = []

    # One after the other: the emulated time is that of all threads.
    beliefs = sorted(
        BELIEFS, key=lambda belief: (belief.option != "--queue-url", belief.subject)
    )
    of_messages = sum(belief.option == "--queue-url" for belief in beliefs)
    results = runner.run(
        beliefs[:of_messages], account, workers=1, on_result=told.append
    )
    # moto counts all messages of a queue for each new one.
    client_of("events").disable_rule(Name="events")
    results += runner.run(
        beliefs[of_messages:], account, workers=1, on_result=told.append
    )

    unexpected = [
        r
        for r in results
        if r.verdict != Verdict.AS_BELIEVED and not r.seen.startswith(OLD_BOTO3)
    ]
    assert [(r.belief.id, r.verdict, r.seen, r.detail) for r in unexpected] == []
    assert [result.belief for result in results] == beliefs
    assert by_id(told) == by_id(results)
    assert all(name.startswith("polysync-verify-0123abcd-") for name in names(server))
    assert_costs_nothing(server, account)
    assert account.clean() == {}
    assert names(server) == set()
    # Messages about others are given back.
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    size = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[*counts])[
        "Attributes"
    ]
    assert int(size[counts[0]]) >= 2
    assert int(size[counts[1]]) == 0
    (simulated,) = server.control.calls("SimulatePrincipalPolicy")
    assert simulated["request"]["PolicySourceArn"] == EMULATED_ROLE
    # The simulation takes no patterns.
    assert simulated["request"]["ResourceArns"] == [
        STOP[1].replace("*", "polysync-verify")
    ]
    # The tokens of the callback steps that have waited.
    assert len(account.session.secrets) == 3


def assert_costs_nothing(server: EmulatorServer, account: Account) -> None:
    """
    Without options, no step is one that AWS bills: a Lambda step costs nothing if there
    is no such function.
    """
    optional = {
        account.name_of(each)
        for each in ("callback", "callback-failed", "callback-stopped", "job")
    }
    requests = [
        call["request"]
        for call in server.control.calls()
        if "PipelineDefinition" in call["request"]
    ]
    sent = [
        each["PipelineDefinition"]
        for each in requests
        if each["PipelineName"] not in optional
        and "-definition-" not in each["PipelineName"]
    ]
    started = [
        call["request"]["PipelineName"]
        for call in server.control.calls("StartPipelineExecution")
    ]
    assert not any("-definition-" in name for name in started)
    text = " ".join(sent)
    kinds = set(re.findall(r'"Type": "([A-Z]\w+)", "(?:Arguments|FunctionArn)"', text))
    assert kinds == {"Condition", "Fail", "Lambda"}
    prefix = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:polysync-no-such-function"
    functions = set(re.findall(r'"FunctionArn": "([^"]*)"', text))
    assert {name.removeprefix(prefix) for name in functions} == {"", "-after-update"}
    # Otherwise AWS makes an experiment of each pipeline, and keeps it when the pipeline
    # is deleted.
    assert [
        each for each in sent if '"PipelineExperimentConfig": null' not in each
    ] == []


def test_options_that_are_not_given(make_account: MakeAccount) -> None:
    """What costs money, or needs more than the account, is checked on demand only."""
    results = runner.run(
        [belief for belief in BELIEFS if belief.option], make_account()
    )

    assert {(r.verdict, r.seen) for r in results} == {
        (Verdict.NOT_CHECKED, f"{option} is not given")
        for option in ("--with-job", "--queue-url", "--simulate-policy")
    }


def test_what_the_session_does_not_have(make_account: MakeAccount) -> None:
    """
    With the credentials of boto3, nobody knows the links and the permissions of the
    provider.
    """
    account = make_account({"--simulate-policy": "yes"})

    results = runner.run(choose(["link", "permission"]), account, workers=1)

    assert {result.verdict for result in results} == {Verdict.NOT_CHECKED}
    assert all(
        "polysync-airflow, which needs --conn-id" in result.seen for result in results
    )


def test_queue_without_a_rule(
    make_account: MakeAccount, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Events that do not come are not checked, with how to change that: nobody knows of a
    rule.
    """
    monkeypatch.setattr(inbox, "_PAUSE_SECONDS", 5)
    url = client_of("sqs").create_queue(QueueName="quiet")["QueueUrl"]

    found = by_id(
        runner.run(choose(["event"]), make_account({"--queue-url": url}), workers=1)
    )

    for name, parameter in (
        ("begin", "Running=true"),
        ("step", "Steps=true"),
        ("step-members", "Steps=true"),
    ):
        result = found.pop(f"event.{name}")
        assert result.verdict == Verdict.NOT_CHECKED
        assert f"{parameter} of sagemaker-events.yaml" in result.seen
    reason = "no event has come: does a rule of EventBridge send them to the queue?"
    assert {(result.verdict, result.seen) for result in found.values()} == {
        (Verdict.NOT_CHECKED, reason)
    }


@pytest.mark.parametrize("seconds", [0, 3])
def test_role_that_may_not_send(
    seconds: int,
    make_account: MakeAccount,
    server: EmulatorServer,
    client_of: ClientOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A callback step whose message cannot be sent fails, at once or later: nothing is
    concluded from that.
    """
    monkeypatch.setattr(Inbox, "about", lambda *_: [])
    failure = {"duration": seconds, "fail": {"reason": "The role may not"}}
    server.control.put_scenario({"steps": {"Ask": failure}})
    url = client_of("sqs").create_queue(QueueName="answers")["QueueUrl"]

    found = by_id(
        runner.run(choose(["callback"]), make_account({"--queue-url": url}), workers=1)
    )

    assert found.pop("callback.unknown-token").verdict == Verdict.AS_BELIEVED
    reason = (
        "the step has ended: The role may not; may the role send messages to the queue?"
    )
    assert {(result.verdict, result.seen) for result in found.values()} == {
        (Verdict.NOT_CHECKED, reason)
    }


def test_nobody_may_answer(make_account: MakeAccount, server: EmulatorServer) -> None:
    """
    Without the permission to answer, no callback step is started, which could not be
    ended.
    """
    answer = "SendPipelineExecutionStepFailure"
    server.control.add_fault("error", answer, **DENIED)

    results = runner.run(
        choose(["callback"]), make_account({"--queue-url": QUEUE}), workers=1
    )

    assert {(r.verdict, r.seen) for r in results} == {
        (Verdict.NOT_CHECKED, f"no permission for {answer}")
    }
    assert names(server) == set()


def test_missing_permissions(make_account: MakeAccount, server: EmulatorServer) -> None:
    """
    A check without a permission names it; the others are made, and what was made is
    deleted all the same.
    """
    for operation in ("RetryPipelineExecution", "ListPipelineExecutions"):
        server.control.add_fault("error", operation, **DENIED)
    account = make_account()

    results = runner.run(
        choose(["resume.repeated", "outcome.statuses", "start.count"]),
        account,
        workers=1,
    )

    assert {
        name: (result.verdict, result.seen) for name, result in by_id(results).items()
    } == {
        "resume.repeated": (
            Verdict.NOT_CHECKED,
            "no permission for RetryPipelineExecution",
        ),
        "start.count": (
            Verdict.NOT_CHECKED,
            "no permission for ListPipelineExecutions",
        ),
        "outcome.statuses": (Verdict.AS_BELIEVED, "Succeeded, Failed"),
    }
    assert account.clean() == {}
    assert names(server) == set()


def test_denied_action_of_the_policy(
    make_account: MakeAccount, client_of: ClientOf
) -> None:
    """An action that the identity may not do is named, with what to do."""
    denied = {
        "Effect": "Deny",
        "Action": "sagemaker:StopPipelineExecution",
        "Resource": "*",
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    client_of("iam").put_role_policy(
        RoleName="SageMakerRole", PolicyName="denied", PolicyDocument=policy
    )
    account = make_account(
        {"--simulate-policy": "yes"}, permissions=lambda region: [STOP]
    )

    (result,) = runner.run(choose(["permission"]), account)

    assert (result.verdict, result.seen) == (
        Verdict.DIFFERS,
        "denied: sagemaker:StopPipelineExecution",
    )
    assert result.detail == f"Allow sagemaker:StopPipelineExecution on {STOP[1]}."


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "NoSuchEntity",
            "IAM does not find the role: one with a path cannot be simulated",
        ),
        ("AccessDenied", "no permission for SimulatePrincipalPolicy"),
    ],
)
def test_policies_that_cannot_be_simulated(
    code: str, reason: str, make_account: MakeAccount, server: EmulatorServer
) -> None:
    """
    The ARN of a session does not have the path of its role, so IAM may not find the
    role; or it may not be asked.
    """
    server.control.add_fault(
        "error", "SimulatePrincipalPolicy", code=code, message="no"
    )
    account = make_account(
        {"--simulate-policy": "yes"}, permissions=lambda region: [STOP]
    )

    (result,) = runner.run(choose(["permission"]), account)

    assert (result.verdict, result.seen) == (Verdict.NOT_CHECKED, reason)


@pytest.mark.parametrize(
    ("identity", "source"),
    [
        (
            f"arn:aws:iam::{ACCOUNT}:user/teams/me",
            f"arn:aws:iam::{ACCOUNT}:user/teams/me",
        ),
        (
            f"arn:aws:sts::{ACCOUNT}:assumed-role/Airflow/i-0123",
            f"arn:aws:iam::{ACCOUNT}:role/Airflow",
        ),
        (
            f"arn:aws-cn:sts::{ACCOUNT}:assumed-role/A/b",
            f"arn:aws-cn:iam::{ACCOUNT}:role/A",
        ),
        (f"arn:aws:iam::{ACCOUNT}:root", None),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/me", None),
    ],
)
def test_policy_source(identity: str, source: str | None) -> None:
    """
    The policies are those of the user, or of the role of the session; IAM simulates no
    others.
    """
    if source:
        assert policy_source(identity) == source
    else:
        with pytest.raises(NotCheckedError, match="neither a user nor a role"):
            policy_source(identity)


def test_a_full_quota_is_waited_for(
    make_account: MakeAccount, server: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    It is no answer of AWS to what is checked, and neither is a quota that stays full.
    """
    full = {
        "code": "ResourceLimitExceeded",
        "message": "The account-level service limit is 20",
    }
    server.control.add_fault("error", "StartPipelineExecution", count=2, **full)
    results = runner.run(choose(["outcome.statuses"]), make_account())
    assert [result.verdict for result in results] == [Verdict.AS_BELIEVED]

    server.control.add_fault("error", "StartPipelineExecution", **full)
    results = runner.run(choose(["outcome"]), make_account(), workers=1)
    assert {result.verdict for result in results} == {Verdict.ERROR}
    assert sum(emulated_time.slept) > 120


def test_requests_have_a_rate(
    make_account: MakeAccount, emulated_time: EmulatedTime
) -> None:
    """
    An account shares its rate with everything else in it: after those of one second,
    each waits for its turn.
    """
    account, begin = make_account(), emulated_time.monotonic()

    for _ in range(60):
        account.call("ListPipelines")

    assert 1.9 < emulated_time.monotonic() - begin < 2.1


def test_execution_that_does_not_end(
    make_account: MakeAccount, server: EmulatorServer
) -> None:
    """A check does not wait forever."""
    server.control.put_scenario(
        {"statuses": [{"status": "Executing", "after": 0, "until": None}]}
    )
    account = make_account()
    arn = account.start(account.create("succeeds", definitions.succeeding()))

    with pytest.raises(
        VerifyError, match="The end of an execution did not come within 10 s"
    ):
        account.wait_for_end(arn, seconds=10)
