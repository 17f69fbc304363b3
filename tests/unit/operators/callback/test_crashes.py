"""
A worker dies at any point: the step is answered exactly once, and the next try knows
what it can know.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.unit.operators.callback.conftest import FAILURE, SUCCESS, Pipeline


class Crash(BaseException):
    """The end of a process."""


class Function:
    """
    A function that counts its calls, and dies in the first one on demand.

    :param dies: whether the process dies in it.
    :param fails: whether it raises an exception otherwise.
    """

    def __init__(self, *, dies: bool = False, fails: bool = False) -> None:
        self.calls, self.dies, self.fails = 0, dies, fails

    def __call__(self, ticket: str) -> dict[str, str]:
        """Return output parameters that differ from call to call, as an answer may."""
        self.calls += 1
        if self.dies and self.calls == 1:
            raise Crash
        if self.fails:
            raise ValueError(f"call {self.calls}")
        return {"ok": f"call {self.calls}"}


def crash_in(method: str, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """
    Let the process die at the first call of a method of the hook, before or after AWS
    has handled it.
    """
    call: Any = getattr(PolysyncSageMakerHook, method)
    crashed: list[bool] = []

    def crash(self: Any, *arguments: Any, **options: Any) -> Any:
        if crashed:
            return call(self, *arguments, **options)
        crashed.append(True)
        if after:
            call(self, *arguments, **options)
        raise Crash

    monkeypatch.setattr(PolysyncSageMakerHook, method, crash)


SEND_SUCCESS = "send_pipeline_execution_step_success"
SEND_FAILURE = "send_pipeline_execution_step_failure"


# In seconds: before and after the message is visible again.
@pytest.mark.parametrize("retry_delay", [1, 300])
@pytest.mark.parametrize(
    ("method", "after", "fails", "calls"),
    [
        ("receive_messages", False, False, 1),
        ("receive_messages", True, False, 1),
        # In the function.
        (None, False, False, 2),
        (None, False, True, 2),
        (SEND_SUCCESS, False, False, 2),
        (SEND_FAILURE, False, True, 2),
        (SEND_SUCCESS, True, False, 1),
        (SEND_FAILURE, True, True, 1),
        ("delete_messages", False, False, 1),
        ("delete_messages", True, False, 1),
    ],
)
def test_function_is_called_again_only_if_there_is_no_answer(
    method: str | None,
    after: bool,
    fails: bool,
    calls: int,
    retry_delay: int,
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The next try ends as the answer says, and calls the function again only if there is
    no answer. It deletes the message if it is visible again.
    """
    function = Function(dies=method is None, fails=fails)
    if method:
        crash_in(method, monkeypatch, after=after)
    with pytest.raises(Crash):
        pipeline.answer(function, deferrable=fails)

    pipeline.time.sleep(retry_delay)
    run = pipeline.answer(function, deferrable=fails, try_number=2)

    assert function.calls == calls
    content = f"call {calls}"
    if fails:
        assert pipeline.answers() == [(FAILURE, f"ValueError: {content}")]
        assert run.result is None
        assert content in str(run.error)
    else:
        assert pipeline.answers() == [(SUCCESS, {"ok": content})]
        assert run.result == {"ok": content}
        assert run.error is None
    if calls == 2 or method == "receive_messages" or retry_delay == 300:
        assert pipeline.messages() == []


@pytest.mark.parametrize(("fails", "operation"), [(False, SUCCESS), (True, FAILURE)])
@pytest.mark.parametrize("kind", ["lost_response", "throttle"])
def test_answer_is_repeated_with_the_same_client_token(
    kind: str, fails: bool, operation: str, pipeline: Pipeline
) -> None:
    """
    A lost response, or throttling, leads to the same request with the same client
    token.
    """
    pipeline.emulator.control.add_fault(kind, operation, count=2)

    run = pipeline.answer(Function(fails=fails))

    requests = [call["request"] for call in pipeline.emulator.control.calls(operation)]
    assert len(requests) == 3
    # The log has the content of those that reached the emulator.
    assert len({request["ClientRequestToken"] for request in requests if request}) == 1
    assert len(pipeline.answers()) == 1
    assert bool(run.error) == fails


@pytest.mark.parametrize(
    "code", ["ConflictException", "ValidationException", "ResourceNotFound"]
)
def test_answer_that_is_refused_fails_the_task_if_the_step_still_waits(
    code: str, pipeline: Pipeline
) -> None:
    """
    If the step still waits, the refusal fails the task; a conflict is repeated for a
    while.
    """
    pipeline.emulator.control.add_fault("error", SUCCESS, code=code, message="no")

    run = pipeline.answer(Function())

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == code
    assert pipeline.answers() == []
    assert pipeline.step()["StepStatus"] == "Executing"


@pytest.mark.parametrize(
    "code", ["ConflictException", "ValidationException", "ResourceNotFound"]
)
def test_answer_of_somebody_else_counts_whatever_the_refusal_is(
    code: str, pipeline: Pipeline
) -> None:
    """callback.other-answer: the step has ended, so the other answer is its result."""

    def answer_late(ticket: str) -> dict[str, str]:
        pipeline.sagemaker.send_pipeline_execution_step_success(
            CallbackToken=pipeline.step()["Metadata"]["Callback"]["CallbackToken"],
            OutputParameters=[{"Name": "ok", "Value": "theirs"}],
        )
        pipeline.emulator.control.add_fault("error", SUCCESS, code=code, message="no")
        return {"ok": "mine"}

    run = pipeline.answer(answer_late)

    assert run.error is None, run.error
    assert run.result == {"ok": "theirs"}
