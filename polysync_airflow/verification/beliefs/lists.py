"""
What AWS shows of pipelines and executions: when, in which order, on which pages, and by which names.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from polysync_airflow.aws.responses import MAX_TOKEN_LENGTH
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import pipeline_name_from_arn
from polysync_airflow.execution.search import SETTLE_SECONDS
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, arn_of, missing_execution, status_of
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.cleaning import PREFIX, run_tags
from polysync_airflow.verification.models import INVALID, NOT_FOUND, Belief, Seen, limit_text, told, within

_POLL_SECONDS: Final = 0.2
# botocore sends times in whole seconds.
_APART_SECONDS: Final = 3.0
_IN_ORDER: Final = "the newest first"


def _until(account: Account, is_there: Callable[[], bool], limit: float) -> Seen:
    """Return how long it takes until something is there. It is looked for a little longer than the limit."""
    begin = clock.monotonic()
    while True:
        if is_there():
            return within(clock.monotonic() - begin, limit)
        if clock.monotonic() - begin > 2 * limit:
            return Seen(f"not within {limit:.0f} s", f"not within {2 * limit:.0f} s either")
        account.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Lags:
    """When an execution is shown after the response of its start."""

    describe: Seen
    listed: Seen
    ended: Seen


def _lags(account: Account) -> Lags:
    name = account.create("lag", definitions.succeeding())
    arn = account.start(name)
    describe = _until(account, lambda: _is_found(account, arn), FIRST_POLL_DELAY_SECONDS)
    listed = _until(
        account, lambda: arn in [arn_of(each) for each in account.executions(name)], SETTLE_SECONDS
    )
    end = status_of(account.wait_for_end(arn))
    ended = _until(
        account, lambda: end in [status_of(each) for each in account.executions(name)], SETTLE_SECONDS
    )
    return Lags(describe, listed, ended)


def _is_found(account: Account, arn: str) -> bool:
    answer = account.attempt("DescribePipelineExecution", PipelineExecutionArn=arn)
    return not isinstance(answer, Refusal) and arn_of(answer) == arn


def _three(account: Account) -> tuple[str, list[str]]:
    """Start three executions one after the other, so that their creation times differ."""
    name = account.create("three", definitions.failing())
    arns = [account.start(name)]
    for _ in range(2):
        account.sleep(_APART_SECONDS)
        arns.append(account.start(name))
    for arn in arns:
        account.wait_for_end(arn)
    _until(account, lambda: len(account.executions(name)) >= len(arns), SETTLE_SECONDS)
    return name, arns


def _order_of_executions(account: Account) -> Seen:
    name, arns = account.once(_three)
    listed = [
        arn_of(each) for each in account.executions(name, SortBy="CreationTime", SortOrder="Descending")
    ]
    return Seen(_order(listed, arns))


def _default_order_of_executions(account: Account) -> Seen:
    name, arns = account.once(_three)
    return Seen(_order([arn_of(each) for each in account.executions(name)], arns))


def _order_of_steps(account: Account) -> Seen:
    _, arns = account.once(_three)
    listed = [step.name for step in account.steps(arns[0])]
    return Seen(_order(listed, ["First", "Second", "Third"]), ", ".join(listed))


def _order(listed: Sequence[str], begun: Sequence[str]) -> str:
    if list(listed) == list(reversed(begun)):
        return _IN_ORDER
    return "the oldest first" if list(listed) == list(begun) else "in another order"


def _pages(account: Account) -> Seen:
    name, arns = account.once(_three)
    pages = account.pages("ListPipelineExecutions", page_size=1, PipelineName=name)
    listed = [arn_of(each) for page in pages for each in _summaries(page)]
    sizes = {len(_summaries(page)) for page in pages[: len(arns)]}
    complete = sorted(listed) == sorted(arns) and sizes == {1}
    return Seen("each execution once" if complete else f"{len(listed)} entries on {len(pages)} pages")


def _pages_of_steps(account: Account) -> Seen:
    _, arns = account.once(_three)
    operation = "ListPipelineExecutionSteps"
    pages = account.pages(operation, page_size=2, PipelineExecutionArn=arns[0])
    listed = [each.get("StepName") for page in pages for each in _entries(page, "PipelineExecutionSteps")]
    complete = sorted(map(str, listed)) == ["First", "Second", "Third"]
    return Seen("each step once" if complete else f"{len(listed)} entries", f"{len(pages)} pages")


def _summaries(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _entries(page, "PipelineExecutionSummaries")


def _entries(page: Mapping[str, Any], member: str) -> list[Mapping[str, Any]]:
    entries = page.get(member)
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _token(account: Account) -> object:
    name, _ = account.once(_three)
    return account.call("ListPipelineExecutions", PipelineName=name, MaxResults=1).get("NextToken")


def _length_of_tokens(account: Account) -> Seen:
    token = _token(account)
    if not isinstance(token, str):
        return Seen("no token")
    fits = len(token) <= MAX_TOKEN_LENGTH
    return Seen("fits" if fits else "does not fit", f"{len(token)} characters")


def _token_of_another_list(account: Account) -> Seen:
    other, _ = account.once(_two_cases)
    answer = account.attempt("ListPipelineExecutions", PipelineName=other, NextToken=_token(account))
    return told(answer)


def _created_after(account: Account) -> Seen:
    name, arns = account.once(_three)
    created: datetime = account.describe(arns[1])["CreationTime"]
    listed = account.executions(name, CreatedAfter=created - timedelta(seconds=1))
    return Seen("only the later ones" if {arn_of(each) for each in listed} == {*arns[1:]} else "others")


def _two_cases(account: Account) -> tuple[str, str]:
    """Create a pipeline whose name has upper and lower case, and return its name and its ARN."""
    name = account.create("Case", definitions.succeeding())
    arn = account.call("DescribePipeline", PipelineName=name).get("PipelineArn")
    return name, str(arn)


def _tags(account: Account) -> Seen:
    _, arn = account.once(_two_cases)
    tags = account.call("ListTags", ResourceArn=arn).get("Tags")
    return Seen("as they were sent" if tags == run_tags(account.run_id) else "others", str(tags)[:100])


def _definition(account: Account) -> Seen:
    name, _ = account.once(_three)
    shown = account.call("DescribePipeline", PipelineName=name).get("PipelineDefinition")
    return Seen("as it was sent" if shown == definitions.failing() else "in another form", str(shown)[:100])


def _case_in_arn(account: Account) -> Seen:
    name, arn = account.once(_two_cases)
    return _case(arn.rpartition("/")[2], name)


def _case_in_execution_arn(account: Account) -> Seen:
    name, _ = account.once(_two_cases)
    return _case(pipeline_name_from_arn(account.start(name)), name)


def _case(shown: str, name: str) -> Seen:
    return Seen("as it was written" if shown == name else "in lower case" if shown == name.lower() else shown)


def _other_case(account: Account) -> Seen:
    account.once(_two_cases)
    answer = account.attempt("DescribePipeline", PipelineName=account.name_of("case"))
    return told(answer, "found")


def _second_name(account: Account) -> Seen:
    account.once(_two_cases)
    answer = account.try_to_create("case", definitions.succeeding())
    return told(answer)


def _prefix(account: Account) -> Seen:
    name, _ = account.once(_two_cases)
    prefix = f"{PREFIX}-{account.run_id}"
    pages = account.pages("ListPipelines", SortBy="Name", SortOrder="Ascending", PipelineNamePrefix=prefix)
    names = [each.get("PipelineName") for page in pages for each in page.get("PipelineSummaries", [])]
    if name not in names:
        return Seen("not listed")
    own = all(str(each).startswith(prefix) for each in names)
    return Seen("only those with the prefix" if own else "others, too", f"{len(names)} pipelines")


def _prefix_with_hyphen(account: Account) -> Seen:
    answer = account.attempt("ListPipelines", PipelineNamePrefix=f"{PREFIX}-", MaxResults=1)
    return told(answer)


def _missing_execution(account: Account) -> Seen:
    _, arns = account.once(_three)
    missing = missing_execution(arns[0])
    answer = account.attempt("DescribePipelineExecution", PipelineExecutionArn=missing)
    return told(answer, "found")


_LOOKUP: Final = "polysync_airflow/execution/lifecycle/beginning.py"
_CRITERIA: Final = "polysync_airflow/execution/search.py"
_HOOK: Final = "polysync_airflow/hooks/executions.py"
_EXCEPTIONS: Final = "polysync_airflow/exceptions.py"
_STORE: Final = "emulator/sagemaker_emulator/sagemaker/store.py"

BELIEFS: Final = (
    Belief(
        id="list.describe-lag",
        sentence="DescribePipelineExecution finds an execution when a wait polls it for the first time.",
        expected=limit_text(FIRST_POLL_DELAY_SECONDS),
        relied_on_by=("polysync_airflow/execution/waiter.py", "docs/explanation/outcomes.md"),
        check=lambda account: account.once(_lags).describe,
    ),
    Belief(
        id="list.list-lag",
        sentence="ListPipelineExecutions has an execution soon after its start.",
        expected=limit_text(SETTLE_SECONDS),
        relied_on_by=(_CRITERIA, _LOOKUP, "docs/how-to/react-to-executions.md"),
        check=lambda account: account.once(_lags).listed,
    ),
    Belief(
        id="list.status-lag",
        sentence="ListPipelineExecutions has the status of an end soon after DescribePipelineExecution.",
        expected=limit_text(SETTLE_SECONDS),
        relied_on_by=(_CRITERIA, "docs/how-to/react-to-executions.md"),
        check=lambda account: account.once(_lags).ended,
    ),
    Belief(
        id="list.executions-order",
        sentence="Executions can be sorted by creation time, the newest first.",
        expected=_IN_ORDER,
        relied_on_by=(_HOOK, "polysync_airflow/operators/parameter_check.py"),
        check=_order_of_executions,
    ),
    Belief(
        id="list.executions-default-order",
        sentence="Without an order, executions are listed the newest first.",
        expected=_IN_ORDER,
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/pagination.py",),
        check=_default_order_of_executions,
    ),
    Belief(
        id="list.steps-order",
        sentence="Without an order, steps are listed the newest first.",
        expected=_IN_ORDER,
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/pagination.py",),
        check=_order_of_steps,
    ),
    Belief(
        id="list.pages",
        sentence="The pages of a list have each execution once, and the last page has no token.",
        expected="each execution once",
        relied_on_by=("polysync_airflow/aws/responses.py",),
        check=_pages,
    ),
    Belief(
        id="list.step-pages",
        sentence="The pages of a list of steps have each step once.",
        expected="each step once",
        relied_on_by=("polysync_airflow/aws/responses.py",),
        check=_pages_of_steps,
    ),
    Belief(
        id="list.token-length",
        sentence=f"A token of a list has at most {MAX_TOKEN_LENGTH:,} characters.",
        expected="fits",
        relied_on_by=("polysync_airflow/aws/responses.py",),
        check=_length_of_tokens,
    ),
    Belief(
        id="list.token-of-another-list",
        sentence="The token of the list of another pipeline is refused.",
        expected=INVALID,
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/pagination.py",),
        check=_token_of_another_list,
    ),
    Belief(
        id="list.created-after",
        sentence="CreatedAfter leaves out the executions that were created before.",
        expected="only the later ones",
        relied_on_by=("polysync_airflow/execution/search.py",),
        check=_created_after,
    ),
    Belief(
        id="list.tags",
        sentence="A new pipeline has the tags with which it was created.",
        expected="as they were sent",
        relied_on_by=("polysync_airflow/verification/cleaning.py", "docs/how-to/verify.md"),
        check=_tags,
    ),
    Belief(
        id="list.definition",
        sentence="DescribePipeline returns the definition as it was sent.",
        expected="as it was sent",
        relied_on_by=(
            "polysync_airflow/jobs/importer.py",
            "polysync_airflow/operators/parameter_check.py",
            "polysync_airflow/jobs/drift.py",
        ),
        check=_definition,
    ),
    Belief(
        id="list.case-in-arn",
        sentence="The ARN of a new pipeline has the name as it was written.",
        expected="as it was written",
        relied_on_by=(
            "polysync_airflow/execution/models.py",
            "polysync_airflow/auth/iam_policies.py",
            _STORE,
        ),
        check=_case_in_arn,
    ),
    Belief(
        id="list.case-in-execution-arn",
        sentence="The ARN of its executions, too.",
        expected="as it was written",
        relied_on_by=("polysync_airflow/execution/models.py", "polysync_airflow/auth/iam_policies.py"),
        check=_case_in_execution_arn,
    ),
    Belief(
        id="list.other-case",
        sentence="A pipeline is found by its name in another case.",
        expected="found",
        relied_on_by=(_STORE,),
        check=_other_case,
    ),
    Belief(
        id="list.same-name-in-another-case",
        sentence="Two pipelines cannot have names that differ in case only.",
        expected=INVALID,
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/pipelines.py",),
        check=_second_name,
    ),
    Belief(
        id="list.prefix",
        sentence="Pipelines can be listed by the beginning of their names.",
        expected="only those with the prefix",
        relied_on_by=("polysync_airflow/hooks/executions.py", "polysync_airflow/verification/cleaning.py"),
        check=_prefix,
    ),
    Belief(
        id="list.prefix-with-hyphen",
        sentence="A beginning of a name that ends with a hyphen is refused.",
        expected=INVALID,
        relied_on_by=("polysync_airflow/jobs/importer.py", "polysync_airflow/verification/cleaning.py"),
        check=_prefix_with_hyphen,
    ),
    Belief(
        id="list.missing-execution",
        sentence="An execution that does not exist is not found.",
        expected=NOT_FOUND,
        relied_on_by=(
            _EXCEPTIONS,
            "docs/explanation/outcomes.md",
            "polysync_airflow/auth/connection_test.py",
        ),
        check=_missing_execution,
    ),
)
