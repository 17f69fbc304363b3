"""
The callback token ends the step for whoever knows it: it is in nothing that a task
leaves behind.
"""

from __future__ import annotations

import logging
from types import NoneType
from typing import Any

import pytest
from pydantic import SecretStr

from polysync_airflow import exceptions
from polysync_airflow.execution.steps.callbacks import answer_token
from tests.fakes.log_capture import capture_logs
from tests.unit.operators.callback.conftest import FAILURE, SUCCESS, Pipeline
from tests.unit.operators.callback.test_answers import approve, fail


def chain_of(error: BaseException | None) -> list[str]:
    """Return an error, and all errors that led to it, as texts."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or (
            None if error.__suppress_context__ else error.__context__
        )
    return texts


def stop(pipeline: Pipeline) -> None:
    """Stop the execution."""
    pipeline.begin_step()
    pipeline.stop()


def refuse(pipeline: Pipeline) -> None:
    """Let AWS quote the token in its refusal."""
    token = pipeline.begin_step()
    for operation in (SUCCESS, FAILURE):
        pipeline.emulator.control.add_fault(
            "error",
            operation,
            code="ValidationException",
            message=f"Value '{token}' at 'callbackToken'",
        )


@pytest.mark.parametrize(
    ("prepare", "function", "error", "deferrable"),
    [
        (None, approve, NoneType, True),
        (None, fail, exceptions.CallbackStepError, False),
        (stop, approve, exceptions.PipelineExecutionCancelledError, True),
        (refuse, approve, exceptions.SageMakerApiError, False),
        (refuse, fail, exceptions.SageMakerApiError, True),
    ],
)
def test_token_of_the_callback_is_shown_nowhere(
    prepare: Any,
    function: Any,
    error: Any,
    deferrable: bool,
    pipeline: Pipeline,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Not in logs, XComs, errors, trigger rows, events and operators; and Airflow's masker
    knows it.
    """
    masked: list[str] = []
    monkeypatch.setattr(
        "polysync_airflow.operators.callback_run.mask_secret", masked.append
    )
    if prepare:
        prepare(pipeline)

    # botocore logs requests and responses at this level.
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        run = pipeline.answer(function, deferrable=deferrable)

    token = pipeline.step()["Metadata"]["Callback"]["CallbackToken"]
    assert isinstance(run.error, error), run.error
    assert set(masked) == {token}
    seen = [
        logs,
        caplog.text,
        run,
        run.xcoms,
        run.trigger,
        run.event,
        vars(run.operator),
    ]
    seen += chain_of(run.error)
    # The callback token could be found from the client tokens.
    kinds: tuple[Any, ...] = ("success", "failure")
    client_tokens = [
        answer_token(SecretStr(token), kind).get_secret_value() for kind in kinds
    ]
    for secret in (token, *client_tokens):
        assert secret not in repr(seen)


def test_tokens_of_others_are_nowhere(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The messages of other executions are received and sent again, and their tokens are
    in no log.
    """
    pipeline.create_queue(1)
    body = {
        "token": "theirToken",
        "pipelineExecutionArn": pipeline.arn[:-1] + "0",
        "arguments": {},
    }
    pipeline.send(body)
    pipeline.emulator.control.add_fault(
        "error", "SendMessage", code="InternalError", message="down", count=1
    )

    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        run = pipeline.answer(approve)

    assert run.error is None, run.error
    assert len(pipeline.emulator.control.calls("SendMessage")) > 1
    assert "theirToken" not in repr([logs, caplog.text])
