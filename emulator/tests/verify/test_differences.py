"""
An AWS that answers in another way than is believed: the checks name exactly what is
different.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from sagemaker_emulator.verify import runner
from sagemaker_emulator.verify.models import BELIEFS, Verdict
from sagemaker_emulator.verify.report import has_failed, summary
from tests.verify.conftest import RUN_ID, Answer, LetAnswer, MakeAccount, refuse

Request = dict[str, Any]
Send = Callable[[Request], Any]

DIFFERENT = {
    "start.same-token-other-parameters": "refused with ValidationException",
    "list.describe-lag": "not within 5 s",
    "stop.other-token": "accepted",
    "resume.definition": "that of the update",
    "resume.fail-step": "accepted",
    "selection.without-source": "accepted",
    "outcome.completed-with-failures": "Failed",
    "outcome.cache-hit": "another",
    "outcome.selective-result": "another",
    "outcome.first-attempt": "0",
}


def is_about(request: Request, subject: str) -> bool:
    """Return whether a request is about the pipeline of a subject."""
    return f"-{RUN_ID}-{subject}/" in request["PipelineExecutionArn"]


def refuse_used_tokens_in_another_way(request: Request, send: Send) -> Any:
    """A used token with other parameters is refused with another error."""
    try:
        return send(request)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConflictException":
            raise refuse("ValidationException") from None
        raise


def accept_selections_without_a_source(request: Request, send: Send) -> Any:
    """A selected step needs no source."""
    config = request.get("SelectiveExecutionConfig", {})
    if (
        config.get("SelectedSteps") == [{"StepName": "Step3"}]
        and "SourcePipelineExecutionArn" not in config
    ):
        request = {
            name: value
            for name, value in request.items()
            if name != "SelectiveExecutionConfig"
        }
    return send(request)


def find_late() -> Answer:
    """An execution is found after some seconds."""
    left = 40

    def answer(request: Request, send: Send) -> Any:
        nonlocal left
        if is_about(request, "lag") and left:
            left -= 1
            raise refuse("ResourceNotFound")
        return send(request)

    return answer


def end_as_failed(request: Request, send: Send) -> Any:
    """A failure that another step follows is a failure all the same."""
    response = send(request)
    if response["PipelineExecutionStatus"] == "CompletedWithFailures":
        response["PipelineExecutionStatus"] = "Failed"
    return response


def accept_second_stops(request: Request, send: Send) -> Any:
    """A stop is accepted also while the execution is stopping."""
    try:
        return send(request)
    except ClientError as error:
        if "has status 'Stopping'" not in str(error):
            raise
        return {}


def list_other_steps(request: Request, send: Send) -> Any:
    """
    A repeated step runs what the update has changed; a step that ran has the results of
    another execution, and has made no attempt.
    """
    response = send(request)
    for step in response["PipelineExecutionSteps"]:
        if is_about(request, "succeeds"):
            step["AttemptCount"] -= 1
            reused = {"SourcePipelineExecutionArn": "another"}
            step |= {"CacheHitResult": reused, "SelectiveExecutionResult": reused}
        if is_about(request, "resume") and step.get("AttemptCount", 0) > 1:
            step["Metadata"]["Lambda"]["Arn"] += "-after-update"
    return response


def resume_after_fail_steps(request: Request, send: Send) -> Any:
    """An execution that has ended with a Fail step is resumed."""
    return request if is_about(request, "resume-failstep") else send(request)


def test_differences(make_account: MakeAccount, let_answer: LetAnswer) -> None:
    """Each difference is found, and nothing else, and what it changes is named."""
    for operation, answer in (
        ("StartPipelineExecution", accept_selections_without_a_source),
        ("StartPipelineExecution", refuse_used_tokens_in_another_way),
        ("DescribePipelineExecution", find_late()),
        ("DescribePipelineExecution", end_as_failed),
        ("RetryPipelineExecution", resume_after_fail_steps),
        ("StopPipelineExecution", accept_second_stops),
        ("ListPipelineExecutionSteps", list_other_steps),
    ):
        let_answer(operation, answer)

    results = runner.run(
        [belief for belief in BELIEFS if not belief.option], make_account(), workers=1
    )

    found = {
        result.belief.id: result.seen for result in results if has_failed([result])
    }
    assert found == DIFFERENT
    told = summary(results)
    for result in results:
        if result.verdict is Verdict.DIFFERS:
            assert (
                f"This changes what these rely on: {', '.join(result.belief.relied_on_by)}\n"
                in told
            )


def test_an_answer_that_nothing_expects(
    make_account: MakeAccount, let_answer: LetAnswer
) -> None:
    """
    A damaged answer is an error of those checks that look at it, which the others of a
    scenario do not notice.
    """
    let_answer(
        "ListPipelineExecutionSteps",
        lambda request, send: {"PipelineExecutionSteps": [None]},
    )
    ids = ("outcome.statuses", "outcome.steps", "list.steps-order", "list.pages")
    beliefs = [belief for belief in BELIEFS if belief.id in ids]

    results = runner.run(beliefs, make_account(), workers=1)

    errors = {result.belief.id for result in results if result.verdict is Verdict.ERROR}
    assert errors == {"outcome.steps", "list.steps-order"}
