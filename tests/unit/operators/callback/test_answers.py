"""
A task answers a callback step: with what its function returns, with its failure, or
because of a stop.
"""

from __future__ import annotations

import sys
from threading import Event
from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.sdk import AirflowSkipException, AirflowTaskTimeout
from polysync_airflow.airflow_compat.supervisor import mask_secret
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import callback_answer as answers
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.unit.operators.callback.conftest import FAILURE, STEP, SUCCESS, Pipeline

STOPPED = (FAILURE, "The execution is being stopped.")


def approve(ticket: str, **more: Any) -> dict[str, Any]:
    """Return output parameters."""
    return {"ok": f"yes to {ticket}", **more}


@IN_BOTH_MODES
@pytest.mark.parametrize("begun", [False, True])
def test_step_succeeds_with_the_result_of_the_function(
    deferrable: bool, begun: bool, pipeline: Pipeline
) -> None:
    """
    The function gets the arguments of the step, and the pipeline gets what it returns,
    as texts.
    """
    if begun:
        pipeline.begin_step()

    with capture_logs() as logs:
        run = pipeline.answer(
            approve, deferrable=deferrable, op_kwargs={"count": 2, "good": True}
        )

    assert run.error is None, run.error
    assert texts_of(logs)[-1].endswith(" Output parameters: ok, count, good")
    assert run.result == {"ok": "yes to T-1", "count": "2", "good": "True"}
    assert pipeline.answers() == [(SUCCESS, run.result)]
    assert pipeline.step()["StepStatus"] == "Succeeded"
    assert pipeline.messages() == []
    assert (run.trigger is not None) == (deferrable and not begun)
    assert run.xcoms["console_url"].endswith(pipeline.arn)
    assert "steps" not in run.xcoms
    assert (run.xcoms["execution_arn"], run.xcoms["step_name"]) == (pipeline.arn, STEP)


def test_function_without_a_result_has_no_output_parameters(pipeline: Pipeline) -> None:
    """
    None means no output parameters; ``op_kwargs`` override an argument of the step.
    """
    seen = []

    def function(**arguments: Any) -> None:
        seen.append(arguments)

    with capture_logs() as logs:
        run = pipeline.answer(function, op_kwargs={"ticket": "mine"})

    assert (run.error, run.result) == (None, {})
    assert texts_of(logs)[-1].endswith(" Output parameters: none")
    assert seen == [{"ticket": "mine"}]
    assert pipeline.answers() == [(SUCCESS, {})]


def fail(**_: Any) -> None:
    """Fail as a function does."""
    raise ValueError("no budget:\n" + "x" * 300)


def without_arguments() -> dict[str, str]:
    """Take no arguments, although the step has one."""
    return {}


def leave(**_: Any) -> None:
    """End as a script does."""
    sys.exit(3)


def time_out(**_: Any) -> None:
    """Fail as Airflow lets a function fail when ``execution_timeout`` has passed."""
    raise AirflowTaskTimeout("Timeout")


def leak(**_: Any) -> None:
    """Fail with a text that has a secret of Airflow."""
    mask_secret("hunter2-hunter2")
    raise RuntimeError("cannot sign in with hunter2-hunter2")


NO_DICT = "The function returned a list of 1: return a dict of at most 50"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (fail, "ValueError: no budget: x"),
        (without_arguments, "TypeError: "),
        (leave, "SystemExit: 3"),
        # AWS shows the reason to everybody who may list the steps.
        (leak, "RuntimeError: cannot sign in with ***"),
        (
            time_out,
            "The function did not end before the execution_timeout of its task.",
        ),
        # The tests of the core have what else AWS would refuse.
        (lambda ticket: ["ok"], NO_DICT),
    ],
)
def test_step_and_task_fail_with_the_exception_of_the_function(
    function: Any, reason: str, pipeline: Pipeline
) -> None:
    """
    An exception, and a result that AWS would refuse, fail the step with the reason, and
    the task for good.
    """
    run = pipeline.answer(function)

    ((operation, sent),) = pipeline.answers()
    assert operation == FAILURE
    assert sent.startswith(reason)
    assert len(sent) <= 256
    assert "\n" not in sent
    assert type(run.error) is exceptions.CallbackStepError
    assert run.error.permanent
    assert reason in str(run.error)
    assert run.error.__cause__ is not None
    assert pipeline.messages() == []
    pipeline.time.sleep(60)
    assert pipeline.status() == "Failed"


def test_step_fails_if_the_function_skips_its_task(
    deferrable: bool, pipeline: Pipeline
) -> None:
    """
    A function that skips its task must not let the pipeline go on: the step fails, and
    the task is skipped.
    """

    def skip(ticket: str) -> None:
        raise AirflowSkipException(f"{ticket} is not urgent")

    run = pipeline.answer(skip, deferrable=deferrable)

    assert pipeline.answers() == [(FAILURE, "AirflowSkipException: T-1 is not urgent")]
    assert type(run.error) is AirflowSkipException
    assert "Execution: arn:aws:sagemaker" in str(run.error)
    assert pipeline.messages() == []


@IN_BOTH_MODES
def test_stop_of_a_step_that_waits(deferrable: bool, pipeline: Pipeline) -> None:
    """
    The step is answered at once, without a call of the function, and the execution ends
    as Stopped.
    """
    pipeline.begin_step()
    pipeline.stop()

    run = pipeline.answer(approve, deferrable=deferrable)

    assert pipeline.answers() == [STOPPED]
    assert isinstance(run.error, exceptions.PipelineExecutionCancelledError)
    assert pipeline.messages() == []
    pipeline.time.sleep(60)
    assert pipeline.status() == "Stopped"


@IN_BOTH_MODES
def test_task_ends_if_the_execution_is_stopped_before_the_step(
    deferrable: bool, pipeline: Pipeline
) -> None:
    """
    The step never begins, so there is nothing to answer: the task ends as soon as the
    stop is seen.
    """
    pipeline.time.after(8, pipeline.stop)

    run = pipeline.answer(approve, deferrable=deferrable)

    assert pipeline.answers() == []
    assert isinstance(run.error, exceptions.PipelineExecutionCancelledError)
    assert "before callback step WaitForApproval was answered" in str(run.error)


def test_stop_while_the_function_runs(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The step is answered while the function still runs. What it returns later is not
    sent.
    """
    monkeypatch.setattr(answers, "MONITOR_SECONDS", 0.01)
    answered = Event()
    fail_step = answers.Answer.fail

    def fail_and_tell(self: Any, reason: str) -> bool:
        try:
            return fail_step(self, reason)
        finally:
            answered.set()

    monkeypatch.setattr(answers.Answer, "fail", fail_and_tell)

    def function(ticket: str) -> dict[str, str]:
        pipeline.stop()
        assert answered.wait(30)
        assert pipeline.answers() == [STOPPED]
        return {"ok": "too late"}

    run = pipeline.answer(function)

    assert pipeline.answers() == [STOPPED]
    assert isinstance(run.error, exceptions.PipelineExecutionCancelledError)
    assert pipeline.messages() == []


@pytest.mark.parametrize(
    "first", ["describe_pipeline_execution", "list_pipeline_execution_steps"]
)
def test_step_that_ends_while_the_task_looks(
    first: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Somebody else answers, and the execution ends, after either call of the first look.
    """
    call = getattr(PolysyncSageMakerHook, first)
    tokens: list[str] = []

    def call_and_answer(*arguments: Any, **more: Any) -> Any:
        response = call(*arguments, **more)
        if not tokens:
            tokens.append(pipeline.begin_step())
            outputs = [{"Name": "ok", "Value": "theirs"}]
            pipeline.sagemaker.send_pipeline_execution_step_success(
                CallbackToken=tokens[0], OutputParameters=outputs
            )
            pipeline.time.sleep(3600)
        return response

    monkeypatch.setattr(PolysyncSageMakerHook, first, call_and_answer)

    run = pipeline.answer(approve)

    assert run.error is None, run.error
    assert run.result == {"ok": "theirs"}


FAILS_AT_ONCE = {STEP: {"duration": 0, "fail": {"reason": "no\nline"}}}
FailedStep = exceptions.CallbackStepError
TimedOut = exceptions.PipelineExecutionTimeoutError


@pytest.mark.parametrize(
    ("scenario", "timeout", "error", "text"),
    [
        ({"Notify": {"fail": {}}}, 600, FailedStep, "ended without callback step"),
        ({"Notify": {"duration": 500}}, 60, TimedOut, "did not begin before"),
        ({STEP: {"duration": 0, "outputs": {"ok": "1"}}}, 600, None, ""),
        (FAILS_AT_ONCE, 600, FailedStep, "has already failed: no\n  | line"),
    ],
)
def test_step_that_cannot_be_answered(
    deferrable: bool,
    scenario: Any,
    timeout: float,
    error: type[exceptions.PolysyncError] | None,
    text: str,
    pipeline: Pipeline,
) -> None:
    """
    A step that never ran, began too late, or has ended by itself, has the same outcome
    in both modes.
    """
    pipeline.start(**scenario)

    run = pipeline.answer(approve, deferrable=deferrable, timeout=timeout)

    assert type(run.error) is (error or type(None)), run.error
    assert text in str(run.error)
    assert pipeline.answers() == []
    assert run.result == (None if error else {"ok": "1"})
    if isinstance(run.error, exceptions.PolysyncError):
        # An execution that has not ended may still begin the step.
        assert run.error.permanent == (error is exceptions.CallbackStepError)
