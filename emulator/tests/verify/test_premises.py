"""
Endpoints on which a premise of checks is not true: they are not checked, and nothing is
concluded from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session
from moto.server import ThreadedMotoServer

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.verify import calls, runner
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import BELIEFS, Result, Verdict, choose
from sagemaker_emulator.verify.session import CONFIG, Session
from tests.verify.conftest import (
    ROLE,
    RUN_ID,
    EmulatedTime,
    LetAnswer,
    MakeAccount,
    refuse,
)

FOR_NOTHING = [belief for belief in BELIEFS if not belief.option]
SUCCEEDED = "the execution ended as Succeeded"
KEYS = {
    "aws_access_key_id": "any",
    "aws_secret_access_key": "any",
    "region_name": "us-east-1",
}


def nightly(*values: Any) -> Any:
    """Return a case that is tested at night only."""
    return pytest.param(*values, marks=pytest.mark.nightly)


def wrong(results: list[Result]) -> list[tuple[str, str, str]]:
    """
    Return what is told of an endpoint that does what is believed, as far as it can be
    seen.
    """
    told = [
        each for each in results if each.verdict in (Verdict.DIFFERS, Verdict.ERROR)
    ]
    return [(each.belief.id, each.seen, each.detail) for each in told]


def unchecked(results: list[Result]) -> dict[str, str]:
    """Return why checks were not made, by their ids."""
    return {
        each.belief.id: each.seen
        for each in results
        if each.verdict is Verdict.NOT_CHECKED
    }


@pytest.mark.parametrize(
    ("speed", "latency"),
    [
        (120, 0.01),
        (20, 0.5),
        *(
            nightly(*each)
            for each in [(10, 0.01), (700, 0.01), (10, 1.0), (40, 0.3), (120, 0.2)]
        ),
    ],
)
def test_fast_endpoint(
    speed: int,
    latency: float,
    make_account: MakeAccount,
    emulated_time: EmulatedTime,
    let_answer: LetAnswer,
) -> None:
    """
    However soon executions end, nothing is told of those that have ended before a check
    has looked.
    """
    emulated_time.speed = speed

    def answer(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        # The request waits for its turn, or is on its way.
        emulated_time.pass_by(latency)
        return send(request)

    let_answer("", answer)

    results = runner.run(FOR_NOTHING, make_account(), workers=1)

    assert wrong(results) == []
    assert sum(each.verdict is Verdict.AS_BELIEVED for each in results) > 60


@pytest.mark.parametrize(
    ("operation", "number", "is_before"),
    [
        ("StopPipelineExecution", 1, True),
        nightly("StopPipelineExecution", 2, True),
        nightly("StopPipelineExecution", 3, True),
        nightly("StopPipelineExecution", 1, False),
        ("RetryPipelineExecution", 1, False),
        nightly("RetryPipelineExecution", 2, True),
        nightly("RetryPipelineExecution", 3, True),
        nightly("DeletePipeline", 1, True),
    ],
)
def test_late_requests(
    operation: str,
    number: int,
    is_before: bool,
    make_account: MakeAccount,
    server: EmulatorServer,
    let_answer: LetAnswer,
) -> None:
    """
    An execution that ends right before or after AWS has a request is no evidence of
    anything.
    """
    clock: Any = server.clock
    counts: Counter[str] = Counter()

    def answer(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        # Of each pipeline.
        name = (
            request.get("PipelineName") or request["PipelineExecutionArn"].split("/")[1]
        )
        counts[name] += 1
        is_late = counts[name] == number
        clock.advance(300 if is_late and is_before else 0)
        try:
            return send(request)
        finally:
            clock.advance(300 if is_late and not is_before else 0)

    let_answer(operation, answer)

    results = runner.run(
        choose(["stop", "resume", "selection"]), make_account(), workers=1
    )

    assert wrong(results) == []


def test_lambda_steps_that_succeed(
    make_account: MakeAccount, server: EmulatorServer
) -> None:
    """
    Where the function exists that nobody should have, nothing fails, and nothing can be
    resumed.
    """
    server.control.put_scenario({"steps": {"Third": {}, "Broken": {}}})

    results = runner.run(FOR_NOTHING, make_account(), workers=1)

    assert wrong(results) == []
    reasons = unchecked(results)
    independent = {"resume.missing", "resume.fail-step"}
    resumes = {belief.id for belief in BELIEFS if belief.subject == "resume"}
    assert {
        name for name, reason in reasons.items() if reason == SUCCEEDED
    } == resumes - independent
    assert reasons["outcome.running-steps"] == "the step Broken is Succeeded"


def test_executions_of_their_own(
    make_account: MakeAccount, server: EmulatorServer
) -> None:
    """No scenario looks at an execution that another one stops, resumes or deletes."""
    account, used, changed = make_account(), {}, {}
    for scenario in dict.fromkeys(
        (belief.subject, belief.scenario) for belief in FOR_NOTHING
    ):
        server.control.clear_calls()
        runner.run(
            [each for each in BELIEFS if (each.subject, each.scenario) == scenario],
            account,
            workers=1,
        )
        sent = [
            (call["operation"], call["request"].get("PipelineExecutionArn"))
            for call in server.control.calls()
        ]
        used[scenario] = {arn for _, arn in sent if arn}
        operations = ("StopPipelineExecution", "RetryPipelineExecution")
        changed[scenario] = {arn for operation, arn in sent if operation in operations}

    assert sum(map(len, changed.values())) > 10
    shared = [
        (one, other)
        for one in changed
        for other in used
        if one != other and any(arn in used[other] for arn in changed[one])
    ]
    assert shared == []


def test_a_stop_that_is_ignored(
    make_account: MakeAccount, let_answer: LetAnswer
) -> None:
    """
    A stop that is accepted and does nothing differs; what is believed of stopped
    executions is not checked.
    """
    let_answer("StopPipelineExecution", lambda request, send: {})

    results = runner.run(choose(["stop", "selection"]), make_account(), workers=1)

    assert {name: seen for name, seen, _ in wrong(results)} == {
        "stop.stopping": "Executing",
        "stop.stopped": "Succeeded",
        # All are accepted.
        "stop.missing": "accepted",
        "stop.ended": "accepted",
    }
    reasons = unchecked(results)
    assert (
        reasons.pop("stop.same-token")
        == reasons.pop("stop.other-token")
        == "the execution is Executing"
    )
    assert {*reasons.values()} == {SUCCEEDED}
    assert {
        "stop.steps",
        "stop.text",
        "stop.resumed-end",
        "selection.stopped-source",
    } < {*reasons}


def test_a_status_that_comes_late(
    make_account: MakeAccount, let_answer: LetAnswer
) -> None:
    """
    A resumed execution whose status is still the old one differs; nothing is concluded
    from the old end.
    """
    resumed: set[str] = set()

    def resume(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        if f"-{RUN_ID}-resume/" in request["PipelineExecutionArn"]:
            resumed.add(request["PipelineExecutionArn"])
        return send(request)

    def describe(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        response = send(request)
        if request["PipelineExecutionArn"] in resumed:
            response["PipelineExecutionStatus"] = "Failed"
        return response

    let_answer("RetryPipelineExecution", resume)
    let_answer("DescribePipelineExecution", describe)

    results = runner.run(choose(["resume"]), make_account(), workers=1)

    assert [(name, seen) for name, seen, _ in wrong(results)] == [
        ("resume.status", "Failed")
    ]
    assert unchecked(results)["resume.repeated"] == "the execution ended as Failed"


def test_selections_that_are_ignored(
    make_account: MakeAccount, let_answer: LetAnswer
) -> None:
    """A selection that is accepted where all steps run is no evidence of anything."""

    def start(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        return send(
            {
                name: value
                for name, value in request.items()
                if name != "SelectiveExecutionConfig"
            }
        )

    let_answer("StartPipelineExecution", start)

    results = runner.run(
        choose(["selection.first-step", "selection.gap", "selection.shown"]),
        make_account(),
    )

    assert [(name, seen) for name, seen, _ in wrong(results)] == [
        ("selection.shown", "not shown")
    ]
    assert {*unchecked(results).values()} == {"the execution shows no selection"}


def test_refusals_need_an_ordinary_request(
    make_account: MakeAccount, let_answer: LetAnswer
) -> None:
    """Where ordinary values are refused, the refusal of a wrong one is no evidence."""

    def start(request: dict[str, Any], send: Callable[[dict[str, Any]], Any]) -> Any:
        if "PipelineParameters" in request and request["PipelineName"].endswith(
            "-typed"
        ):
            raise refuse("ValidationException")
        return send(request)

    let_answer("StartPipelineExecution", start)

    results = runner.run(
        choose(["parameter.enum", "parameter.as-sent"]), make_account()
    )

    assert Verdict.AS_BELIEVED not in {each.verdict for each in results}


@pytest.fixture
def let_send(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, bytes], list[str]]:
    """
    Return a function that lets an endpoint answer an operation with a page, and returns
    the requests for it.
    """
    send = URLLib3Session.send

    def let(operation: str, status: int, body: bytes) -> list[str]:
        asked: list[str] = []

        def answer(self: Any, request: Any) -> Any:
            if not request.headers.get("X-Amz-Target", b"").endswith(
                operation.encode()
            ):
                return send(self, request)
            asked.append(request.url)

            class Raw:
                def stream(self) -> Iterator[bytes]:
                    yield body

            headers: Any = {}
            return AWSResponse(request.url, status, headers, Raw())

        monkeypatch.setattr(URLLib3Session, "send", answer)
        return asked

    return let


@pytest.mark.parametrize(
    ("status", "body", "requests"),
    [
        (500, b"<!doctype html>\n<title>500 Internal Server Error</title>", 2),
        (501, b"", 1),
        (404, b"<html>Not Found</html>", 1),
        (200, b"<HTML>Welcome</HTML>", 1),
        (400, b'{"__type": "UnknownOperationException"}', 1),
        (501, b'{"__type": "InternalFailure", "message": "not yet implemented"}', 1),
    ],
)
def test_missing_operation(
    status: int,
    body: bytes,
    requests: int,
    make_account: MakeAccount,
    let_send: Callable[[str, int, bytes], list[str]],
) -> None:
    """
    An operation that the endpoint does not have is found once, whatever the endpoint
    answers.
    """
    asked = let_send("RetryPipelineExecution", status, body)
    account = make_account()

    results = runner.run(
        choose(["resume", "stop.resume-of-stopped", "stop.missing"]), account, workers=1
    )

    reasons = unchecked(results)
    assert len(asked) == requests
    assert {*reasons.values()} == {"the endpoint has no RetryPipelineExecution"}
    assert len(reasons) == len(results) - 1
    assert wrong(results) == []


def test_request_that_the_endpoint_cannot_answer(
    make_account: MakeAccount, let_send: Callable[[str, int, bytes], list[str]]
) -> None:
    """
    An operation that was answered before is there: only what needs this request is not
    checked.
    """
    account = make_account()
    account.call("ListPipelines")
    asked = let_send("ListPipelines", 500, b"<html>")

    results = runner.run(choose(["list.prefix", "list.tags"]), account)

    assert unchecked(results) == {
        "list.prefix": "the endpoint fails at a request of ListPipelines: HTTP 500",
        "list.tags": "the endpoint fails at a request of ListPipelines: HTTP 500",
    }
    assert len(asked) == 2


@pytest.fixture
def moto(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """
    An account of moto's server, where each execution has ended at once, and where time
    passes at once.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()

    class Time(EmulatedTime):
        def __init__(self) -> None:
            self.at = 0.0

        def monotonic(self) -> float:
            return self.at

        def sleep(self, seconds: float) -> None:
            self.at += seconds

    monkeypatch.setattr(calls, "time", Time())

    # The type stubs of boto3.client have one overload for each literal service name.
    factory: Any = boto3.client
    client = partial(
        factory, endpoint_url=f"http://{host}:{port}", config=CONFIG, **KEYS
    )
    yield Account(Session(client, {}, []), ROLE, RUN_ID, {})
    server.stop()


def test_moto(moto: Account) -> None:
    """Of an endpoint without stops, resumes and steps, only what it answers is told."""
    results = runner.run(FOR_NOTHING, moto, workers=1)

    reasons = unchecked(results)
    assert [each.belief.id for each in results if each.verdict is Verdict.ERROR] == []
    assert {belief.id for belief in BELIEFS if belief.subject in ("stop", "resume")} < {
        *reasons
    }
    assert "the endpoint has no ListPipelineExecutionSteps" in reasons.values()
    # Each of these is what moto does.
    differing = {name: seen for name, seen, _ in wrong(results)}
    assert differing["start.same-token"] == "another execution"
    assert reasons["start.version"] == SUCCEEDED
    assert {
        name for name in differing if name.startswith(("outcome", "selection"))
    } == {
        "outcome.statuses",
        "selection.shown",
    }
    assert moto.clean() == {}


def test_money(make_account: MakeAccount) -> None:
    """
    The sixteen checks on which money depends need no option, run first, at the same
    time, and within two minutes.
    """
    beliefs = choose(["money"])
    told: list[Result] = []
    scenarios = dict.fromkeys((belief.subject, belief.scenario) for belief in beliefs)

    alone = runner.run(beliefs, make_account(), workers=1)
    runner.run(FOR_NOTHING, make_account(), workers=1, on_result=told.append)

    assert (len(beliefs), {belief.option for belief in beliefs}) == (16, {None})
    assert {each.verdict for each in alone} == {Verdict.AS_BELIEVED}
    assert len(scenarios) <= runner.WORKERS
    assert max(each.seconds for each in alone) < 60
    first = list(
        dict.fromkeys((each.belief.subject, each.belief.scenario) for each in told)
    )[: len(scenarios)]
    assert first == [*scenarios]
