"""
Runs that are killed, interrupted or refused: nothing is left, at the end or after
``--clean``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.verify import calls, cleaning, definitions, runner
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import Calls, CancelledError
from sagemaker_emulator.verify.models import choose
from sagemaker_emulator.verify.session import Session
from tests.verify.conftest import RUN_ID, EmulatedTime, LetAnswer, MakeAccount, names

SUBJECTS = ["stop", "selection", "resume"]
OWN_PREFIX = f"polysync-verify-{RUN_ID}"
DENIED = {"code": "AccessDeniedException", "message": "not allowed"}
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/polysync-answers"
CleanAll = Callable[[], dict[str, BaseException]]


class Killed(BaseException):
    """What kills a run in these tests."""


@pytest.fixture
def clean_all(make_session: Callable[..., Session]) -> CleanAll:
    """Return a function that does what ``--clean`` does, in another process."""

    def clean() -> dict[str, BaseException]:
        of_another = Calls(make_session())
        found, may_have_more = cleaning.leftovers(of_another)
        assert not may_have_more
        return cleaning.delete_pipelines(of_another, found)

    return clean


def name_of(run_id: str) -> str:
    """Return the name of a pipeline of a run."""
    return f"polysync-verify-{run_id}-stop"


def create(account: Account, name: str, *run_ids: str) -> str:
    """Create a pipeline with the tags of runs, and return its name."""
    request = {
        "PipelineName": name,
        "PipelineDefinition": definitions.succeeding(),
        "RoleArn": account.role_arn,
    }
    tags = [tag for run_id in run_ids for tag in cleaning.run_tags(run_id)]
    account.call(
        "CreatePipeline", ClientRequestToken=account.token(), Tags=tags, **request
    )
    return name


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 5, 13, 30, 60])
def test_killed(
    number: int,
    after: bool,
    make_account: MakeAccount,
    clean_all: CleanAll,
    server: EmulatorServer,
    let_answer: LetAnswer,
) -> None:
    """
    After a kill at any call, before AWS has it or after AWS has processed it,
    ``--clean`` deletes everything.
    """
    left, is_dead = number, False

    def die(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        nonlocal left
        left -= 1
        if left or is_dead:
            return send(request)
        if after:
            with suppress(ClientError):
                send(request)
        raise Killed

    account = make_account()
    let_answer("", die)
    with pytest.raises(Killed):
        runner.run(choose(SUBJECTS), account, workers=1)
    is_dead = True
    server.control.clear_calls()

    assert clean_all() == {}

    assert names(server) == set()
    assert {call["operation"] for call in server.control.calls()} <= {
        "GetCallerIdentity",
        "DescribePipeline",
        "ListPipelines",
        "ListTags",
        "ListPipelineExecutions",
        "ListPipelineExecutionSteps",
        "StopPipelineExecution",
        "DeletePipeline",
    }


def test_interruption_ends_all_checks(
    make_account: MakeAccount, server: EmulatorServer
) -> None:
    """
    After an interruption, the checks make no more calls, so that the end can delete
    everything.
    """
    account = make_account()

    def interrupt(result: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(choose([*SUBJECTS, "outcome"]), account, on_result=interrupt)

    made = len(server.control.calls())
    # All of them make twice as many.
    assert made < 100
    assert account.clean() == {}
    later = {call["operation"] for call in server.control.calls()[made:]}
    assert {"CreatePipeline", "StartPipelineExecution"} & later == set()


def test_interruption_ends_pauses(
    make_account: MakeAccount, emulated_time: EmulatedTime
) -> None:
    """A check that pauses does not hold the command."""
    account = make_account()
    account.cancel()

    with pytest.raises(CancelledError):
        account.sleep(60)
    with pytest.raises(CancelledError):
        account.call("ListPipelines")

    assert emulated_time.slept == []


def test_others_are_left_alone(
    make_account: MakeAccount,
    clean_all: CleanAll,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Only what has the name and the tag of the same run is deleted, in all pages of the
    list.
    """
    monkeypatch.setattr(calls, "PAGE_SIZE", 10)
    account = make_account()
    for number in range(15):
        run_id = f"{number:08x}"
        create(account, name_of(run_id), run_id)
    important, copied = (
        create(account, f"{OWN_PREFIX}-important"),
        create(account, f"{OWN_PREFIX}-copied", "f" * 8),
    )
    account.start(important)
    others = {
        "polysync-verify-mine",
        "polysync-verify",
        "polysync-verify-0123abcd-a-1",
        "polysync-verifyx",
    }
    for name in others:
        create(account, name, RUN_ID)

    problems = clean_all()

    assert sorted(problems) == [copied, important]
    assert {type(problem) for problem in problems.values()} == {cleaning.NotOwnError}
    assert names(server) == {important, copied, *others}
    assert server.control.calls("StopPipelineExecution") == []


def test_list_that_is_too_long(
    make_account: MakeAccount, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A list that has more pages than all runs can fill is not read to its end, which is
    said.
    """
    monkeypatch.setattr(calls, "MAX_PAGES", 1)
    monkeypatch.setattr(calls, "PAGE_SIZE", 2)
    account = make_account()
    for number in range(3):
        create(account, name_of(f"{number:08x}"))

    found, may_have_more = cleaning.leftovers(account)

    assert (len(found), may_have_more) == (2, True)


def test_a_stop_that_does_not_end(
    make_account: MakeAccount, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An execution that does not end within minutes is reported, and does not hold the
    command forever.
    """
    monkeypatch.setattr(cleaning, "DELETE_SECONDS", 30.0)
    account = make_account()
    name = account.create("stop", definitions.chain())
    statuses = [{"status": "Stopping", "after": 0, "until": None}]
    server.control.put_scenario({"statuses": statuses}, pipeline=name)
    account.start(name)

    assert list(map(str, account.clean().values())) == [
        f"1 execution(s) of {name} still run after 30 s: run polysync verify --clean again in some minutes."
    ]


@pytest.mark.parametrize("denied", ["ListPipelineExecutions", "StopPipelineExecution"])
def test_clean_without_a_permission(
    denied: str, make_account: MakeAccount, server: EmulatorServer
) -> None:
    """What cannot be stopped ends by itself, and is deleted then."""
    account = make_account()
    account.start(account.create("stop", definitions.chain()))
    server.control.add_fault("error", denied, **DENIED)

    assert account.clean() == {}
    assert names(server) == set()


@pytest.mark.parametrize("may_answer", [True, False])
def test_callback_step_that_waits(
    may_answer: bool,
    make_account: MakeAccount,
    clean_all: CleanAll,
    server: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    AWS stops its execution only when the step is answered; without the permission, what
    is left is reported.
    """
    monkeypatch.setattr(cleaning, "DELETE_SECONDS", 30.0)
    account = make_account()
    name = account.create("callback", definitions.callback(QUEUE))
    account.start(name)
    account.sleep(60)
    if not may_answer:
        server.control.add_fault("error", "SendPipelineExecutionStepFailure", **DENIED)

    assert list(clean_all()) == ([] if may_answer else [name])
    assert names(server) == (set() if may_answer else {name})


def test_interrupted_deletion_ends_soon(
    make_account: MakeAccount, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It begins no other delete, and does not wait for the end of executions; the next one
    deletes the rest.
    """
    account = make_account()
    server.control.put_scenario(
        {"statuses": [{"status": "Stopping", "after": 0, "until": 10_000}]}
    )
    for number in range(20):
        run_id = f"{number:08x}"
        account.start(create(account, name_of(run_id), run_id))
    found, _ = cleaning.leftovers(account)
    sleep, numbers = Calls.sleep, [signal.SIGINT]

    def interrupt(self: Calls, seconds: float = 1) -> None:
        if seconds == 2 and numbers:
            # To the process, whose main thread handles it.
            os.kill(os.getpid(), numbers.pop())
        sleep(self, seconds)

    monkeypatch.setattr(Calls, "sleep", interrupt)
    # As in a terminal: a shell lets its background processes ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            cleaning.delete_pipelines(account, found)
    finally:
        signal.signal(signal.SIGINT, before)

    assert len(names(server)) == 20
    stopped = {
        call["request"]["PipelineExecutionArn"]
        for call in server.control.calls("StopPipelineExecution")
    }
    assert len(stopped) < 20
