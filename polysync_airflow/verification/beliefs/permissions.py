"""
The permissions of the identity that signs in, by IAM's simulation of its policies.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from polysync_airflow.auth.iam_policies import JOB_OPERATIONS, identity_policy
from polysync_airflow.aws.responses import paginate
from polysync_airflow.exceptions import ACCESS_DENIED, HINTS, SageMakerApiError
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.models import Belief, NotCheckedError, Seen

_ALLOWED: Final = "allowed"
# By error code: why the policies cannot be simulated.
_NOT_SIMULATED: Final = {
    "NoSuchEntity": "IAM does not find the role: one with a path cannot be simulated",
    "UnknownOperationException": "the endpoint has no simulation of policies",
}
_ROLE_SESSION: Final = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/.+")
_IDENTITY: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/.+")


def policy_source(identity_arn: str) -> str:
    """
    Return the ARN of the user or role of an identity.

    :param identity_arn: the ARN that GetCallerIdentity returns.
    :raises NotCheckedError: it is neither, for example the root of the account.
    """
    session = _ROLE_SESSION.fullmatch(identity_arn)
    if session:
        partition, account, role = session.groups()
        return f"arn:{partition}:iam::{account}:role/{role}"
    if not _IDENTITY.fullmatch(identity_arn):
        raise NotCheckedError("the identity is neither a user nor a role")
    return identity_arn


def _policy(account: Account) -> Seen:
    identity = account.hook.get_caller_identity()
    source = policy_source(identity["Arn"])
    partition = source.split(":")[1]
    policy = identity_policy(account=identity["Account"], region=account.region, partition=partition)
    denied = [each for statement in policy["Statement"] for each in _denied(account, source, statement)]
    names = sorted({action for action, _ in denied})
    if not names:
        return Seen("all are allowed")
    cures = [HINTS[ACCESS_DENIED].cure.format(permission=action, resource=arn) for action, arn in denied[:3]]
    return Seen(f"denied: {', '.join(names)}", " ".join(cures))


def _denied(account: Account, source: str, statement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the actions of a statement that are not allowed, each with the pattern of its resources."""
    for resource in statement["Resource"]:
        actions = _actions_for(statement["Action"], resource)
        decisions = _decisions(account, source, actions, resource)
        for action in actions:
            if decisions.get(action) != _ALLOWED:
                yield action, resource


def _actions_for(actions: Sequence[str], resource: str) -> Sequence[str]:
    """Return the actions for a resource: DescribeTrainingJob is about training jobs only."""
    own = {f"sagemaker:{name}" for name, kind in JOB_OPERATIONS.items() if f":{kind}/" in resource}
    return [action for action in actions if action in own] or actions


def _decisions(account: Account, source: str, actions: Sequence[str], resource: str) -> dict[str, str]:
    # The simulation takes no patterns, except for all resources.
    name = resource if resource == "*" else resource.replace("*", "polysync-verify")

    def page_of(marker: str | None) -> tuple[dict[str, Any], Any]:
        following = {"Marker": marker} if marker else {}
        page = account.hook.call_iam(
            "SimulatePrincipalPolicy",
            PolicySourceArn=source,
            ActionNames=list(actions),
            ResourceArns=[name],
            **following,
        )
        return page, page.get("Marker") if page.get("IsTruncated") else None

    try:
        pages = list(paginate("SimulatePrincipalPolicy", page_of))
    except SageMakerApiError as error:
        if error.error_code in _NOT_SIMULATED:
            raise NotCheckedError(_NOT_SIMULATED[error.error_code]) from None
        raise
    results = [each for page in pages for each in page.get("EvaluationResults", []) if isinstance(each, dict)]
    return {str(each.get("EvalActionName")): str(each.get("EvalDecision")) for each in results}


BELIEFS: Final = (
    Belief(
        id="permission.policy",
        sentence="The identity has each permission of polysync iam policy.",
        expected="all are allowed",
        relied_on_by=("polysync_airflow/auth/iam_policies.py", "docs/how-to/least-privilege.md"),
        check=_policy,
        option="--simulate-policy",
    ),
)
