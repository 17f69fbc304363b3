"""
What AWS shows of pipelines and executions: when, in which order, on which pages, and by
which names.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, missing_execution
from sagemaker_emulator.verify.cleaning import PREFIX, run_tags
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Observed,
    one_of,
)

# When a wait polls an execution for the first time.
_DESCRIBED_SECONDS: Final = 5.0
# botocore sends times in whole seconds.
_APART_SECONDS: Final = 3.0
_MAX_TOKEN_LENGTH: Final = 8192
_STEPS: Final = ["First", "Second", "Third"]


def lags(account: Account) -> Observations:
    """Look for an execution right after the response of its start."""

    def is_listed(member: str, value: str) -> bool:
        return value in [each.get(member) for each in account.executions(name)]

    name = account.create("lag", definitions.succeeding())
    arn = account.start(name)
    yield {
        "describe-lag": account.seconds_until(
            lambda: account.is_found(arn), _DESCRIBED_SECONDS
        )
    }
    yield {
        "list-lag": account.seconds_until(
            lambda: is_listed("PipelineExecutionArn", arn)
        )
    }
    end = account.end(arn).status
    yield {
        "status-lag": account.seconds_until(
            lambda: is_listed("PipelineExecutionStatus", end)
        )
    }


def _three(account: Account) -> tuple[str, list[str]]:
    """
    Start three executions one after the other, so that their creation times differ.
    """
    name = account.create("three", definitions.failing())
    arns = [account.start(name)]
    for _ in range(2):
        account.sleep(_APART_SECONDS)
        arns.append(account.start(name))
    for arn in arns:
        account.end(arn)
    account.wait_for_list(name, len(arns))
    return name, arns


def orders(account: Account) -> Observations:
    """List and describe what was started one after the other."""
    name, arns = account.once(_three)

    def listed(**members: Any) -> list[str]:
        return [
            each["PipelineExecutionArn"] for each in account.executions(name, **members)
        ]

    shown = account.call("DescribePipeline", PipelineName=name).get(
        "PipelineDefinition"
    )
    created = account.describe(arns[1])["CreationTime"]
    later = listed(CreatedAfter=created - timedelta(seconds=1))
    yield {
        "executions-order": _order(
            listed(SortBy="CreationTime", SortOrder="Descending"), arns
        )
    }
    yield {"executions-default-order": _order(listed(), arns)}
    yield {
        "definition": one_of(
            shown == definitions.failing(), "as it was sent", "in another form", shown
        )
    }
    yield {
        "missing-execution": account.told(account.describe, missing_execution(arns[0]))
    }
    yield {
        "created-after": one_of(
            {*later} == {*arns[1:]}, "only the later ones", "others"
        )
    }
    steps = [step["StepName"] for step in account.steps(arns[0])]
    if {*steps} != {*_STEPS}:
        raise NotCheckedError(f"the steps {', '.join(steps) or 'none'} are listed")
    yield {"steps-order": _order(steps, _STEPS)}


def _order(listed: Sequence[str], begun: Sequence[str]) -> str:
    if [*listed] == [*reversed(begun)]:
        return "the newest first"
    return "the oldest first" if [*listed] == [*begun] else "in another order"


def pages(account: Account) -> Observations:
    """Read lists page by page."""
    name, arns = account.once(_three)
    executions = account.pages("ListPipelineExecutions", page_size=1, PipelineName=name)
    on_pages = [page["PipelineExecutionSummaries"] for page in executions]
    if len(on_pages) == 1:
        raise NotCheckedError("the list of executions has one page only")
    listed = sorted(each["PipelineExecutionArn"] for page in on_pages for each in page)
    is_complete = listed == sorted(arns) and {*map(len, on_pages[: len(arns)])} == {1}
    counts = f"{len(listed)} entries on {len(on_pages)} pages"
    yield {"pages": one_of(is_complete, "each execution once", counts)}
    token = str(executions[0]["NextToken"])
    fits = len(token) <= _MAX_TOKEN_LENGTH
    yield {
        "token-length": one_of(fits, "fits", "does not fit", f"{len(token)} characters")
    }
    other_list = {
        "PipelineName": account.create("other", definitions.succeeding()),
        "NextToken": token,
    }
    yield {
        "token-of-another-list": account.told(
            account.call, "ListPipelineExecutions", **other_list
        )
    }


def step_pages(account: Account) -> Observations:
    """Read a list of steps page by page."""
    arn = account.once(_three)[1][0]
    pages = account.pages(
        "ListPipelineExecutionSteps", page_size=2, PipelineExecutionArn=arn
    )
    if len(pages) == 1:
        raise NotCheckedError("the list of steps has one page only")
    names = sorted(
        step["StepName"] for page in pages for step in page["PipelineExecutionSteps"]
    )
    yield {
        "step-pages": one_of(names == _STEPS, "each step once", f"{len(names)} entries")
    }


def names(account: Account) -> Observations:
    """Look for pipelines by their names."""
    name = account.create("Case", definitions.succeeding())
    arn = account.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    yield {"case-in-arn": _case(arn.rpartition("/")[2], name)}
    yield {"case-in-execution-arn": _case(account.start(name).split("/")[-3], name)}
    yield {
        "other-case": account.told(
            account.call, "DescribePipeline", PipelineName=account.name_of("case")
        )
    }
    yield {
        "same-name-in-another-case": account.told(
            account.create, "case", definitions.succeeding()
        )
    }
    first, second = (
        account.create(each, definitions.succeeding())
        for each in ("name-first", "name-second")
    )
    by_name = {
        "SortBy": "Name",
        "SortOrder": "Ascending",
        "PipelineNamePrefix": first[:-1],
    }
    entries = account.entries("ListPipelines", "PipelineSummaries", **by_name)
    listed = [each["PipelineName"] for each in entries]
    found = one_of(second in listed, "others, too", "only those with the prefix")
    yield {
        "prefix": found
        if first in listed
        else NotCheckedError("a new pipeline is not listed yet")
    }
    tags = account.call("ListTags", ResourceArn=arn)["Tags"]
    yield {
        "tags": one_of(
            tags == run_tags(account.run_id), "as they were sent", "others", tags
        )
    }


def _case(shown: str, name: str) -> Observed:
    return one_of(
        shown == name,
        "as it was written",
        "in lower case" if shown == name.lower() else shown,
    )


def hyphen(account: Account) -> Observations:
    """List pipelines by a beginning of a name that ends with a hyphen."""
    listed = account.told(
        account.call, "ListPipelines", PipelineNamePrefix=f"{PREFIX}-", MaxResults=1
    )
    yield {"prefix-with-hyphen": listed}
