"""
Starts: client request tokens, names, versions and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from polysync_airflow.execution.models import DISPLAY_NAME_MAX, sent_at
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, arn_of
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.models import (
    IN_CONFLICT,
    INVALID,
    NOT_FOUND,
    Belief,
    NotCheckedError,
    Seen,
    limit_text,
    named_by,
    told,
    within,
)

SAME: Final = "the same execution"
OTHER: Final = "another execution"
# By how much AWS's clocks, and the seconds of the header, may differ.
CLOCK_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Tokens:
    """What the same token starts, beside an execution that has the ARN ``first``."""

    first: str
    again: str | Refusal
    after_end: str | Refusal
    other_parameters: str | Refusal
    other_token: str
    count: int


def tokens(account: Account) -> Tokens:
    """Send a start several times."""
    text = definitions.parameter("Text", "String", "a")
    name = account.create("tokens", definitions.succeeding(text))
    request = account.start_request(name, PipelineParameters=[{"Name": "Text", "Value": "b"}])
    changed = {**request, "PipelineParameters": [{"Name": "Text", "Value": "c"}]}
    first = account.start(**_as_arguments(request))
    again = account.try_to_start(**_as_arguments(request))
    other_parameters = account.try_to_start(**_as_arguments(changed))
    other_token = account.start(name, PipelineParameters=request["PipelineParameters"])
    account.wait_for_end(first)
    after_end = account.try_to_start(**_as_arguments(request))
    account.wait_for_end(other_token)
    return Tokens(first, again, after_end, other_parameters, other_token, len(account.executions(name)))


def _as_arguments(request: dict[str, Any]) -> dict[str, Any]:
    return {"pipeline": request["PipelineName"], **{k: v for k, v in request.items() if k != "PipelineName"}}


def _compared(answer: str | Refusal, first: str) -> Seen:
    if isinstance(answer, Refusal):
        return told(answer)
    return Seen(SAME if answer == first else OTHER)


def _same_token(account: Account) -> Seen:
    found = account.once(tokens)
    return _compared(found.again, found.first)


def _same_token_after_end(account: Account) -> Seen:
    found = account.once(tokens)
    return _compared(found.after_end, found.first)


def _other_parameters(account: Account) -> Seen:
    found = account.once(tokens)
    return _compared(found.other_parameters, found.first)


def _other_token(account: Account) -> Seen:
    found = account.once(tokens)
    return _compared(found.other_token, found.first)


def _number_of_executions(account: Account) -> Seen:
    return Seen(f"{account.once(tokens).count} executions")


def _token_of_a_refusal(account: Account) -> Seen:
    name = account.create("refusal", definitions.succeeding(definitions.parameter("Number", "Integer", 1)))
    token = account.token()
    wrong = account.try_to_start(
        name, ClientRequestToken=token, PipelineParameters=[{"Name": "Number", "Value": "many"}]
    )
    if not isinstance(wrong, Refusal):
        return Seen("the first request is accepted")
    answer = account.try_to_start(name, ClientRequestToken=token)
    return told(answer)


def _plain(account: Account) -> str:
    """Create a pipeline without parameters, for starts that differ in one member."""
    return account.create("plain", definitions.succeeding())


def _answer(account: Account, **members: Any) -> Seen:
    answer = account.try_to_start(account.once(_plain), **members)
    return told(answer)


def _longest_display_name(account: Account) -> Seen:
    longest = "a" * DISPLAY_NAME_MAX
    answer = account.try_to_start(account.once(_plain), PipelineExecutionDisplayName=longest)
    if isinstance(answer, Refusal):
        return told(answer)
    shown = account.wait_for_end(answer).get("PipelineExecutionDisplayName")
    return Seen("accepted, and shown as it was sent" if shown == longest else f"shown as {shown}")


def _longer_display_name(account: Account) -> Seen:
    return _answer(account, PipelineExecutionDisplayName="a" * (DISPLAY_NAME_MAX + 1))


def _display_name_with_other_characters(account: Account) -> Seen:
    return _answer(account, PipelineExecutionDisplayName="manual__2026-01-01T00:00:00")


def _missing_pipeline(account: Account) -> Seen:
    answer = account.try_to_start(account.name_of("missing"))
    return told(answer)


def _missing_alias(account: Account) -> Seen:
    if not account.has_member("StartPipelineExecution", "PipelineVersionAlias"):
        raise NotCheckedError("the installed boto3 does not know PipelineVersionAlias")
    alias = "polysync-verify-none"
    answer = account.try_to_start(account.once(_plain), PipelineVersionAlias=alias)
    return named_by(answer, alias)


def _role(account: Account) -> Seen:
    if not account.has_member("StartPipelineExecution", "RoleArn"):
        raise NotCheckedError("the installed boto3 does not know RoleArn")
    return _answer(account, RoleArn=account.role_arn)


def _by_arn(account: Account) -> Seen:
    arn = account.call("DescribePipeline", PipelineName=account.once(_plain)).get("PipelineArn")
    answer = account.try_to_start(str(arn))
    return told(answer)


def _version(account: Account) -> Seen:
    if not account.has_member("StartPipelineExecution", "PipelineVersionId"):
        raise NotCheckedError("the installed boto3 does not know PipelineVersionId")
    name = account.create("version", definitions.succeeding())
    changed = definitions.failing()
    account.call("UpdatePipeline", PipelineName=name, PipelineDefinition=changed, RoleArn=account.role_arn)
    answer = account.try_to_start(name, PipelineVersionId=1)
    if isinstance(answer, Refusal):
        return told(answer)
    return Seen(str(account.wait_for_end(answer).get("PipelineExecutionStatus")))


def _parallelism(account: Account) -> Seen:
    limit = {"MaxParallelExecutionSteps": 1}
    answer = account.try_to_start(account.once(_plain), ParallelismConfiguration=limit)
    if isinstance(answer, Refusal):
        return told(answer)
    shown = account.wait_for_end(answer).get("ParallelismConfiguration")
    return Seen("accepted, and shown as it was sent" if shown == limit else f"shown as {shown}")


def _clock(account: Account) -> Seen:
    request = account.start_request(account.once(_plain))
    answer = account.call("StartPipelineExecution", **request)
    sent, arn = sent_at(answer), arn_of(answer)
    created = account.wait_for_end(arn).get("CreationTime")
    if sent is None or created is None:
        return Seen("no time")
    seconds = abs((created - sent).total_seconds())
    return within(seconds, CLOCK_SECONDS)


_MACHINE: Final = "polysync_airflow/execution/lifecycle/machine.py"
_IDENTITY: Final = "polysync_airflow/execution/lifecycle/instructions.py"
_ONCE: Final = "docs/explanation/one-execution-per-task.md"
_MODELS: Final = "polysync_airflow/execution/models.py"

BELIEFS: Final = (
    Belief(
        id="start.same-token",
        sentence="A start that is sent again with the same token returns the execution that it has started.",
        expected=SAME,
        relied_on_by=(_MACHINE, _ONCE),
        check=_same_token,
    ),
    Belief(
        id="start.same-token-after-end",
        sentence="The same is true after the end of the execution.",
        expected=SAME,
        relied_on_by=(_MACHINE, _ONCE),
        check=_same_token_after_end,
    ),
    Belief(
        id="start.same-token-other-parameters",
        sentence="A used token is refused if the parameters are others.",
        expected=IN_CONFLICT,
        relied_on_by=(_MACHINE, _ONCE, "emulator/sagemaker_emulator/sagemaker/store.py"),
        check=_other_parameters,
    ),
    Belief(
        id="start.other-token",
        sentence="The same request with another token starts another execution.",
        expected=OTHER,
        relied_on_by=(_ONCE,),
        check=_other_token,
    ),
    Belief(
        id="start.count",
        sentence="Two tokens that are sent five times make two executions.",
        expected="2 executions",
        relied_on_by=(_MACHINE, _ONCE),
        check=_number_of_executions,
    ),
    Belief(
        id="start.token-of-a-refusal",
        sentence="The token of a refused start can be used by another start.",
        expected="accepted",
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/store.py",),
        check=_token_of_a_refusal,
    ),
    Belief(
        id="start.display-name",
        sentence=f"A display name of {DISPLAY_NAME_MAX} characters is accepted.",
        expected="accepted, and shown as it was sent",
        relied_on_by=(_MODELS, _IDENTITY),
        check=_longest_display_name,
    ),
    Belief(
        id="start.longer-display-name",
        sentence="A longer display name is refused.",
        expected=INVALID,
        relied_on_by=(_MODELS,),
        check=_longer_display_name,
    ),
    Belief(
        id="start.display-name-characters",
        sentence="A display name with underscores, colons or plus signs, such as a run id, is refused.",
        expected=INVALID,
        relied_on_by=(_MODELS, _IDENTITY),
        check=_display_name_with_other_characters,
    ),
    Belief(
        id="start.missing-pipeline",
        sentence="The start of a pipeline that does not exist is refused.",
        expected=NOT_FOUND,
        relied_on_by=(
            "polysync_airflow/exceptions.py",
            "polysync_airflow/operators/parameter_check.py",
            "polysync_airflow/auth/connection_test.py",
        ),
        check=_missing_pipeline,
    ),
    Belief(
        id="start.missing-alias",
        sentence="A version alias that does not exist is refused, and the text names it.",
        expected=f"{NOT_FOUND}, which names it",
        relied_on_by=("polysync_airflow/operators/parameter_check.py",),
        check=_missing_alias,
    ),
    Belief(
        id="start.role",
        sentence="A role at the start is refused for pipelines that one has created oneself.",
        expected=INVALID,
        relied_on_by=("emulator/sagemaker_emulator/sagemaker/executions.py", "docs/reference/operators.md"),
        check=_role,
    ),
    Belief(
        id="start.by-arn",
        sentence="A start accepts the ARN of the pipeline in place of its name.",
        expected="accepted",
        relied_on_by=(_MODELS,),
        check=_by_arn,
    ),
    Belief(
        id="start.version",
        sentence="A start with pipeline_version_id runs the definition of this version.",
        expected="Succeeded",
        relied_on_by=("docs/reference/operators.md",),
        check=_version,
    ),
    Belief(
        id="start.parallelism",
        sentence="A start can limit the number of steps that run at the same time.",
        expected="accepted, and shown as it was sent",
        relied_on_by=(_MODELS, "docs/reference/operators.md"),
        check=_parallelism,
    ),
    Belief(
        id="start.clock",
        sentence="The header Date of the response is the creation time of the execution.",
        expected=limit_text(CLOCK_SECONDS),
        relied_on_by=("polysync_airflow/hooks/executions.py",),
        check=_clock,
    ),
)
