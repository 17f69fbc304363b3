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
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Observed,
    one_of,
    within,
    worded,
)

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

    name = account.create(
        "tokens", definitions.succeeding(definitions.parameter("Text", "String", "a"))
    )
    token = account.token()
    first = account.start(name, ClientRequestToken=token, **text("b"))
    yield {"same-token": account.observe(start, **text("b"))}
    yield {"same-token-other-parameters": account.observe(start, **text("c"))}
    other = account.start(name, **text("b"))
    yield {
        "other-token": one_of(other != first, "another execution", "the same execution")
    }
    account.end(first)
    yield {"same-token-after-end": account.observe(start, **text("b"))}
    yield {
        "count": f"{len(account.wait_for_list(name, len({first, other})))} executions"
    }


def members(account: Account) -> Observations:
    """Start executions that differ in one member from one that is accepted."""
    name = account.create("plain", definitions.succeeding())
    told, alias = partial(account.told, account.start, name), "polysync-verify-none"
    response = account.call(
        "StartPipelineExecution", PipelineName=name, ClientRequestToken=account.token()
    )

    def shown(member: str, value: object) -> Observed:
        seen = account.end(account.start(name, **{member: value})).answer.get(member)
        return one_of(
            seen == value, "accepted, and shown as it was sent", f"shown as {seen}"
        )

    naming = "which names it", "which does not name it"
    arn = account.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    yield {
        "display-name": account.observe(
            shown, "PipelineExecutionDisplayName", _LONGEST_NAME
        )
    }
    yield {
        "longer-display-name": told(PipelineExecutionDisplayName=f"{_LONGEST_NAME}a")
    }
    yield {
        "display-name-characters": told(
            PipelineExecutionDisplayName="manual__2026-01-01T00:00:00"
        )
    }
    yield {"missing-alias": worded(told(PipelineVersionAlias=alias), alias, *naming)}
    yield {"role": told(RoleArn=account.role_arn)}
    yield {"by-arn": account.told(account.start, arn)}
    yield {"missing-pipeline": account.told(account.start, account.name_of("missing"))}
    limit = {"MaxParallelExecutionSteps": 1}
    yield {"parallelism": account.observe(shown, "ParallelismConfiguration", limit)}
    sent = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
    created = account.end(response["PipelineExecutionArn"]).answer["CreationTime"]
    yield {"clock": within(abs((created - sent).total_seconds()), _CLOCK_SECONDS)}


def others(account: Account) -> Observations:
    """Use the token of a refused start again."""
    name = account.create(
        "refusal", definitions.succeeding(definitions.parameter("Number", "Integer", 1))
    )
    start = partial(
        account.told, account.start, name, ClientRequestToken=account.token()
    )
    if start(PipelineParameters=[{"Name": "Number", "Value": "many"}]) == "accepted":
        raise NotCheckedError("a start with a wrong value is accepted")
    yield {"token-of-a-refusal": start()}


def versions(account: Account) -> Observations:
    """Start the first version of a pipeline after an update that lets it fail."""
    name = account.create("version", definitions.succeeding())
    account.update(name, definitions.failing())
    account.end(account.start(name), "Failed")
    yield {
        "version": account.observe(
            lambda: account.end(account.start(name, PipelineVersionId=1)).status
        )
    }
