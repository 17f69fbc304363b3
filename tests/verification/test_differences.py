"""An AWS that answers in another way than is believed: the checks name exactly what is different."""

from __future__ import annotations

from typing import Any

from polysync_airflow.verification import runner
from polysync_airflow.verification.catalogue import BELIEFS
from polysync_airflow.verification.models import Verdict
from polysync_airflow.verification.report import has_failed, row
from tests.verification.conftest import MakeAccount
from tests.verification.other_aws import Exchange, OtherAws

DIFFERENT = {
    "start.same-token-other-parameters": "refused with ValidationException",
    "start.longer-display-name": "accepted",
    "parameter.boolean": "accepts 'True', 'true', 'False'; refuses 'FALSE', '1', 'yes'",
    "list.describe-lag": "not within 5 s",
    "list.case-in-arn": "in lower case",
    "stop.other-token": "accepted",
    "resume.definition": "that of the update",
    "resume.fail-step": "accepted",
    "selection.without-source": "accepted",
    "outcome.completed-with-failures": "Failed",
}


def refuse_used_tokens_in_another_way(exchange: Exchange) -> None:
    """A used token with other parameters is refused with another error."""
    exchange.send()
    if exchange.status == 400 and exchange.response["__type"] == "ConflictException":
        exchange.refuse("ValidationException", exchange.response["message"])


def accept_longer_names(exchange: Exchange) -> None:
    """A display name of more than 82 characters is cut."""
    name = exchange.request.get("PipelineExecutionDisplayName", "")
    if len(name) > 82:
        exchange.request["PipelineExecutionDisplayName"] = name[:82]
        exchange.send()


def refuse_capital_booleans(exchange: Exchange) -> None:
    """FALSE is no boolean."""
    if {"Name": "Boolean", "Value": "FALSE"} in exchange.request.get("PipelineParameters", []):
        exchange.refuse("ValidationException", "FALSE is no boolean")


def accept_selections_without_a_source(exchange: Exchange) -> None:
    """A selected step that depends on others needs no source."""
    config = exchange.request.get("SelectiveExecutionConfig", {})
    if config and not config.get("SourcePipelineExecutionArn") and exchange.subject == "select":
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{exchange.request['PipelineName']}"
        exchange.accept(PipelineExecutionArn=f"{arn}/execution/selected0000")


def find_late() -> Any:
    """An execution is found six seconds after its start."""
    left = 30

    def answer(exchange: Exchange) -> None:
        nonlocal left
        if exchange.subject == "lag" and left:
            left -= 1
            exchange.refuse("ResourceNotFound", "Pipeline execution does not exist.")

    return answer


def end_as_failed(exchange: Exchange) -> None:
    """A failure that another step follows is a failure all the same."""
    exchange.send()
    if exchange.response.get("PipelineExecutionStatus") == "CompletedWithFailures":
        exchange.response["PipelineExecutionStatus"] = "Failed"


def show_names_in_lower_case(exchange: Exchange) -> None:
    """An ARN has the name in lower case."""
    exchange.send()
    if "PipelineArn" in exchange.response:
        exchange.response["PipelineArn"] = exchange.response["PipelineArn"].lower()


def accept_second_stops(exchange: Exchange) -> None:
    """A stop is accepted also while the execution is stopping."""
    exchange.send()
    if "has status 'Stopping'" in exchange.response.get("message", ""):
        exchange.accept(PipelineExecutionArn=exchange.request["PipelineExecutionArn"])


def repeat_with_the_new_definition(exchange: Exchange) -> None:
    """A repeated step runs what the update has changed."""
    exchange.send()
    for step in exchange.response.get("PipelineExecutionSteps", []):
        if exchange.subject == "resume" and step.get("AttemptCount", 0) > 1:
            step["Metadata"]["Lambda"]["Arn"] += "-after-update"


def resume_after_fail_steps(exchange: Exchange) -> None:
    """An execution that has ended with a Fail step is resumed."""
    if exchange.subject == "failed":
        exchange.accept(PipelineExecutionArn=exchange.request["PipelineExecutionArn"])


def test_ten_differences(make_account: MakeAccount, other_aws: OtherAws) -> None:
    """Each of ten differences is found, and nothing else, and what it changes is named."""
    for operation, answer in (
        ("StartPipelineExecution", accept_longer_names),
        ("StartPipelineExecution", refuse_capital_booleans),
        ("StartPipelineExecution", accept_selections_without_a_source),
        ("StartPipelineExecution", refuse_used_tokens_in_another_way),
        ("DescribePipelineExecution", find_late()),
        ("DescribePipelineExecution", end_as_failed),
        ("RetryPipelineExecution", resume_after_fail_steps),
        ("DescribePipeline", show_names_in_lower_case),
        ("StopPipelineExecution", accept_second_stops),
        ("ListPipelineExecutionSteps", repeat_with_the_new_definition),
    ):
        other_aws.answer(operation, answer)
    beliefs = [belief for belief in BELIEFS if not belief.option]

    results = runner.run(beliefs, make_account(url=other_aws.url), workers=1)

    found = {result.belief.id: result.seen for result in results if has_failed([result])}
    assert found == DIFFERENT
    for result in results:
        if result.verdict is Verdict.DIFFERS:
            assert all(path in row(result)[2] for path in result.belief.relied_on_by)


def test_an_answer_that_nothing_expects(make_account: MakeAccount, other_aws: OtherAws) -> None:
    """A damaged answer is an error of one check, which the others do not notice."""

    def damage(exchange: Exchange) -> None:
        exchange.accept(PipelineExecutionSteps="none")

    other_aws.answer("ListPipelineExecutionSteps", damage)
    beliefs = [
        belief
        for belief in BELIEFS
        if belief.id in ("outcome.statuses", "start.same-token", "list.steps-order")
    ]

    results = runner.run(beliefs, make_account(url=other_aws.url), workers=1)

    verdicts = {result.belief.id: result.verdict for result in results}
    assert verdicts == {
        "start.same-token": Verdict.AS_BELIEVED,
        "list.steps-order": Verdict.ERROR,
        "outcome.statuses": Verdict.ERROR,
    }
