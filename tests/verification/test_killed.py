"""Runs that are killed, interrupted or refused: nothing is left, at the end or after ``--clean``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock
from polysync_airflow.verification import cleaning, definitions, runner
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.calls import CancelledError
from polysync_airflow.verification.catalogue import choose
from polysync_airflow.verification.hook import VerifyHook
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.verification.conftest import RUN_ID, MakeAccount, names

SUBJECTS = ["stop", "selection", "resume"]
OWN_PREFIX = f"polysync-verify-{RUN_ID}"


class Killed(BaseException):
    """What kills a run in these tests."""


def die_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool, operation: str = "") -> None:
    """Let the n-th call kill the process, before AWS has it or after AWS has processed it."""
    calls, call = 0, VerifyHook.call

    def dying(self: VerifyHook, name: str, **request: Any) -> Any:
        nonlocal calls
        calls += not operation or name == operation
        if calls != number or (operation and name != operation):
            return call(self, name, **request)
        if after:
            with suppress(SageMakerApiError):
                call(self, name, **request)
        raise Killed

    monkeypatch.setattr(VerifyHook, "call", dying)


def clean_all() -> dict[str, PolysyncError]:
    """Do what ``--clean`` does, in another process."""
    hook = VerifyHook()
    found, is_more = cleaning.leftovers(hook)
    assert not is_more
    return cleaning.delete_pipelines(hook, found)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 5, 8, 13, 30, 60])
def test_killed(
    number: int,
    after: bool,
    make_account: MakeAccount,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a kill at any call, ``--clean`` stops what runs and deletes everything."""
    account = make_account()
    with monkeypatch.context() as patch:
        die_at(patch, number, after=after)
        with pytest.raises(Killed):
            runner.run(choose(SUBJECTS), account, workers=1)
    emulator.control.clear_calls()

    assert clean_all() == {}

    assert names(emulator) == set()
    other = {call["operation"] for call in emulator.control.calls()}
    assert other <= {
        "DescribePipeline",
        "ListPipelines",
        "ListTags",
        "ListPipelineExecutions",
        "ListPipelineExecutionSteps",
        "StopPipelineExecution",
        "DeletePipeline",
    }


@pytest.mark.parametrize("operation", ["CreatePipeline", "StartPipelineExecution", "StopPipelineExecution"])
def test_lost_response(
    operation: str, make_account: MakeAccount, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends by an error deletes what AWS has made, also if it has never heard of it."""
    account = make_account()
    with monkeypatch.context() as patch:
        die_at(patch, 1, after=True, operation=operation)
        with pytest.raises(Killed):
            runner.run(choose(SUBJECTS), account, workers=1)

    assert account.clean() == {}
    assert names(emulator) == set()


def test_interruption_ends_all_checks(make_account: MakeAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interruption, the checks make no more calls, so that the end can delete everything."""
    account, calls, call = make_account(), list[str](), VerifyHook.call

    def noting(self: VerifyHook, name: str, **request: Any) -> Any:
        calls.append(name)
        return call(self, name, **request)

    def interrupt(result: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VerifyHook, "call", noting)

    with pytest.raises(KeyboardInterrupt):
        runner.run(choose([*SUBJECTS, "outcome"]), account, on_result=interrupt)

    # All of them make twice as many.
    made = len(calls)
    assert made < 70
    assert account.clean() == {}
    assert {"CreatePipeline", "StartPipelineExecution"} & set(calls[made:]) == set()


def test_interruption_ends_pauses(make_account: MakeAccount, emulated_time: EmulatedTime) -> None:
    """A check that pauses, for example because AWS throttles, does not hold the command."""
    account = make_account()
    account.cancel()

    with pytest.raises(CancelledError):
        account.sleep(60)

    assert emulated_time.slept == [1]


def test_others_are_left_alone(
    make_account: MakeAccount, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what has the name and the tag of the same run is deleted, in all pages of the list."""
    monkeypatch.setattr(cleaning, "PAGE_SIZE", 10)
    account = make_account()
    for number in range(15):
        run_id = f"{number:08x}"
        _create(account, cleaning.pipeline_name(run_id, "stop"), Tags=cleaning.run_tags(run_id))
    important, copied = f"{OWN_PREFIX}-important", f"{OWN_PREFIX}-copied"
    _create(account, important)
    account.start(important)
    _create(account, copied, Tags=[*cleaning.run_tags("f" * 8), {"Key": "team", "Value": RUN_ID}])
    others = {
        "polysync-verify-mine",
        "polysync-verify",
        "polysync-verify-0123abcd-a-1",
        "polysync-verifyx",
    }
    for name in others:
        _create(account, name, Tags=cleaning.run_tags(RUN_ID))

    problems = clean_all()

    assert list(problems) == [copied, important]
    assert {type(problem) for problem in problems.values()} == {cleaning.NotOwnError}
    assert names(emulator) == {important, copied, *others}
    assert emulator.control.calls("StopPipelineExecution") == []


def test_end_of_a_run_leaves_others_alone(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """The end of a run does not delete the pipeline that has kept it from creating one."""
    account = make_account()
    _create(account, f"{OWN_PREFIX}-important")
    account.try_to_create("important", definitions.succeeding())

    assert {type(problem) for problem in account.clean().values()} == {cleaning.NotOwnError}
    assert names(emulator) == {f"{OWN_PREFIX}-important"}


def _create(account: Account, name: str, **members: Any) -> None:
    account.call(
        "CreatePipeline",
        PipelineName=name,
        PipelineDefinition=definitions.succeeding(),
        RoleArn=account.role_arn,
        ClientRequestToken=account.token(),
        **members,
    )


def test_what_cannot_be_deleted(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """A refused delete is reported, and remembered for the next try."""
    account = make_account()
    name = account.create("stop", definitions.chain())
    account.start(name)
    fault = emulator.control.add_fault(
        "error", "DeletePipeline", code="AccessDeniedException", message="not allowed"
    )

    problems = account.clean()

    assert list(problems) == [name]
    assert "sagemaker:DeletePipeline" in str(problems[name])
    emulator.control.remove_faults(fault)
    assert account.clean() == {}
    assert names(emulator) == set()


def test_a_stop_that_does_not_end(
    make_account: MakeAccount, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An execution that does not end within minutes is reported, and does not hold the command forever."""
    monkeypatch.setattr(cleaning, "DELETE_SECONDS", 30.0)
    account = make_account()
    name = account.create("stop", definitions.chain())
    emulator.control.put_scenario(
        {"statuses": [{"status": "Stopping", "after": 0, "until": None}]}, pipeline=name
    )
    account.start(name)

    problems = account.clean()

    assert list(map(str, problems.values())) == [
        f"1 execution(s) of {name} still run after 30 s: run polysync verify --clean again in some minutes."
    ]


@pytest.mark.parametrize("denied", ["ListPipelineExecutions", "StopPipelineExecution"])
def test_clean_without_a_permission(denied: str, make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """What cannot be stopped ends by itself, and is deleted then."""
    account = make_account()
    account.start(account.create("stop", definitions.chain()))
    emulator.control.add_fault("error", denied, code="AccessDeniedException", message="not allowed")

    assert account.clean() == {}
    assert names(emulator) == set()


@pytest.mark.parametrize("may_answer", [True, False])
def test_callback_step_that_waits(
    may_answer: bool,
    make_account: MakeAccount,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """AWS stops its execution only when the step is answered; without the permission, what is left is reported."""
    monkeypatch.setattr(cleaning, "DELETE_SECONDS", 30.0)
    account = make_account()
    queue = "https://sqs.us-east-1.amazonaws.com/123456789012/polysync-answers"
    name = account.create("callback", definitions.callback(queue))
    account.start(name)
    emulated_time.sleep(60)
    if not may_answer:
        answer = "SendPipelineExecutionStepFailure"
        emulator.control.add_fault("error", answer, code="AccessDeniedException", message="not allowed")

    assert list(clean_all()) == ([] if may_answer else [name])
    assert names(emulator) == (set() if may_answer else {name})


def test_leftovers_that_cannot_be_listed(make_account: MakeAccount, emulator: EmulatorServer) -> None:
    """Without the permission to list pipelines, nothing can be found: the error names it."""
    make_account()
    emulator.control.add_fault("error", "ListPipelines", code="AccessDeniedException", message="no")

    with pytest.raises(PolysyncError, match="sagemaker:ListPipelines"):
        clean_all()


def test_interrupted_deletion_ends_soon(
    make_account: MakeAccount,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It begins no other delete, and does not wait for the end of executions; the next one deletes the rest."""
    account = make_account()
    emulator.control.put_scenario({"statuses": [{"status": "Stopping", "after": 0, "until": 10_000}]})
    first = account.create("first", definitions.succeeding())
    for number in range(20):
        run_id = f"{number:08x}"
        name = cleaning.pipeline_name(run_id, "stop")
        _create(account, name, Tags=cleaning.run_tags(run_id))
        account.start(name)
    call = VerifyHook.call

    def interrupting(self: VerifyHook, name: str, **request: Any) -> Any:
        if request.get("PipelineName") == first:
            raise KeyboardInterrupt
        return call(self, name, **request)

    found, _ = cleaning.leftovers(VerifyHook())
    # In real time: in emulated time, five minutes pass at once.
    host = clock.Clock()
    with monkeypatch.context() as patch:
        patch.setattr(VerifyHook, "call", interrupting)
        patch.setattr(cleaning, "clock", host)
        patch.setattr(cleaning, "_PAUSE_SECONDS", 0.1)
        patch.setattr(cleaning, "DELETE_SECONDS", 10.0)
        begin = host.monotonic()
        with pytest.raises(KeyboardInterrupt):
            cleaning.delete_pipelines(VerifyHook(), [first, *found])
        assert host.monotonic() - begin < 5

    assert len(names(emulator)) == 21
    emulated_time.sleep(10_000)
    assert clean_all() == {}
