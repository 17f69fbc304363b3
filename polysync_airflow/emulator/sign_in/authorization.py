"""Access: whether IAM's policies let a caller do what it asks for.

Evaluated are identity policies (inline, attached, those of a user's groups) and session policies, by
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html. Not evaluated are
permissions boundaries, an organization's policies and condition keys about tags. The account's root may do
all. All pipelines are in the emulator's own account, whichever account a caller is from.

As AWS does, a caller is refused before the request is looked at any further: one that may not is told so even
for a pipeline that does not exist, and only one that may hears ResourceNotFound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.sagemaker.store import resource_arn
from polysync_airflow.emulator.sign_in import iam
from polysync_airflow.emulator.sign_in.iam import Caller
from polysync_airflow.emulator.sign_in.policies import Context, Question, Verdict, judge

# The resource of each action is that of
# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html.
# SendPipelineExecutionStepSuccess and -Failure name a callback token only, and are asked about "*".
_MEMBERS = ("PipelineName", "PipelineArn", "PipelineExecutionArn", "ResourceArn")
_WILDCARD_ONLY = frozenset({"ListPipelines"})
_PASSED_TO = "sagemaker.amazonaws.com"


def check_pipeline_operation(caller: Caller, operation: str, region: str, body: Any) -> None:
    """Check that a caller may perform a pipeline operation, and pass the role the request may name.

    :param body: the request as it came from JSON, not yet validated.
    :raises ApiError: AccessDeniedException.
    """
    request: Mapping[str, Any] = body if isinstance(body, dict) else {}
    context = caller.context(region)
    _require(caller, f"sagemaker:{operation}", _resource(operation, region, request), context)
    role_arn = request.get("RoleArn")
    if isinstance(role_arn, str):
        _require(caller, "iam:PassRole", role_arn, {**context, "iam:PassedToService": [_PASSED_TO]})


def may(caller: Caller, action: str, resource: str, context: Context) -> Verdict:
    """Return what a caller's policies say, all kinds together."""
    return _decide(caller, action, resource, context)[0]


def _resource(operation: str, region: str, request: Mapping[str, Any]) -> str:
    named = next((request[name] for name in _MEMBERS if isinstance(request.get(name), str)), None)
    if named is None or operation in _WILDCARD_ONLY:
        return "*"
    # Where a name may be given, an ARN may be, too.
    return named if named.startswith("arn:") else resource_arn(region, "pipeline", named.lower())


def _require(caller: Caller, action: str, resource: str, context: Context) -> None:
    verdict, kind = _decide(caller, action, resource, context)
    if verdict is Verdict.ALLOWED:
        return
    text = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} "
    if verdict is Verdict.DENIED:
        text += f"with an explicit deny in {'an' if kind.startswith('i') else 'a'} {kind} policy"
    else:
        text += f"because no {kind} policy allows the {action} action"
    raise ApiError("AccessDeniedException", text)


def _decide(caller: Caller, action: str, resource: str, context: Context) -> tuple[Verdict, str]:
    """Return the verdict and the kind of policy that it comes from."""
    question = Question(action, resource, context)
    verdicts: list[tuple[Verdict, str]] = []
    if not caller.is_root:
        verdicts.append((judge(iam.identity_policies(caller), question), "identity-based"))
    if caller.session_policies:
        verdicts.append((judge(caller.session_policies, question), "session"))
    for wanted in (Verdict.DENIED, Verdict.SILENT):
        for verdict, kind in verdicts:
            if verdict is wanted:
                return verdict, kind
    return Verdict.ALLOWED, "identity-based"
