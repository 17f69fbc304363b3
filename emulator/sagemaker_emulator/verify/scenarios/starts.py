"""
Starts: client request tokens, names, versions and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import Observations, Observed, one_of, refusal_that, within

_LONGEST_NAME: Final = "a" * 82
# By how much AWS's clocks, and the seconds of the header, may differ.
_CLOCK_SECONDS: Final = 5.0


def tokens(account: Account) -> Observations:
    """Send a start several times."""

    def text(value: str) -> dict[str, Any]:
        return {"PipelineParameters": [{"Name": "Text", "Value": value}]}

    def start(**members: Any) -> Observed:
        arn = account.start(name, ClientRequestToken=token, **members)
        return one_of(arn == first, "the same execution", "another execution")

    name = account.create("tokens", definitions.succeeding(definitions.parameter("Text", "String", "a")))
    token = account.token()
    first = account.start(name, ClientRequestToken=token, **text("b"))
    found = {
        "same-token": account.attempt(start, **text("b")),
        "same-token-other-parameters": account.attempt(start, **text("c")),
    }
    other = account.start(name, **text("b"))
    account.end(first)
    found["same-token-after-end"] = account.attempt(start, **text("b"))
    account.end(other)
    return {
        **found,
        "other-token": one_of(other != first, "another execution", "the same execution"),
        "count": f"{len(account.executions(name))} executions",
    }


def members(account: Account) -> Observations:
    """Start executions that differ in one member."""
    name = account.create("plain", definitions.succeeding())
    told, alias = partial(account.told, account.start, name), "polysync-verify-none"

    def shown(member: str, value: object) -> Observed:
        seen = account.end(account.start(name, **{member: value})).answer.get(member)
        return one_of(seen == value, "accepted, and shown as it was sent", f"shown as {seen}")

    naming = "which names it", "which does not name it"
    arn = account.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    limit = {"MaxParallelExecutionSteps": 1}
    response = account.call("StartPipelineExecution", PipelineName=name, ClientRequestToken=account.token())
    sent = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
    created = account.end(response["PipelineExecutionArn"]).answer["CreationTime"]
    return {
        "display-name": account.attempt(shown, "PipelineExecutionDisplayName", _LONGEST_NAME),
        "longer-display-name": told(PipelineExecutionDisplayName=f"{_LONGEST_NAME}a"),
        "display-name-characters": told(PipelineExecutionDisplayName="manual__2026-01-01T00:00:00"),
        "missing-alias": refusal_that(told(PipelineVersionAlias=alias), alias, *naming),
        "role": told(RoleArn=account.role_arn),
        "by-arn": account.told(account.start, arn),
        "clock": within(abs((created - sent).total_seconds()), _CLOCK_SECONDS),
        "missing-pipeline": account.told(account.start, account.name_of("missing")),
        "parallelism": account.attempt(shown, "ParallelismConfiguration", limit),
    }


def others(account: Account) -> Observations:
    """Use the token of a refused start again, and start the first version of a pipeline after an update."""
    name = account.create("refusal", definitions.succeeding(definitions.parameter("Number", "Integer", 1)))
    start = partial(account.told, account.start, name, ClientRequestToken=account.token())
    wrong = start(PipelineParameters=[{"Name": "Number", "Value": "many"}])
    updated = account.create("version", definitions.succeeding())
    account.update(updated, definitions.failing())
    return {
        "token-of-a-refusal": "the first request is accepted" if wrong == "accepted" else start(),
        "version": account.attempt(lambda: account.end(account.start(updated, PipelineVersionId=1)).status),
    }
