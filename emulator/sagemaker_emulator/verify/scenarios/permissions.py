"""
The permissions of the identity that signs in, by IAM's simulation of its policies.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from botocore.exceptions import ClientError

from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import code_of
from sagemaker_emulator.verify.models import NotCheckedError, Observation, Observations

_ROLE_SESSION: Final = re.compile(
    r"^arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/.+$"
)
_IDENTITY: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(user|role)/.+")


def policy_source(identity_arn: str) -> str:
    """
    Return the ARN of the user or role of an identity.

    :param identity_arn: the ARN that GetCallerIdentity returns.
    :raises NotCheckedError: it is neither, for example the root of the account.
    """
    arn = _ROLE_SESSION.sub(r"arn:\1:iam::\2:role/\3", identity_arn)
    if not _IDENTITY.fullmatch(arn):
        raise NotCheckedError("the identity is neither a user nor a role")
    return arn


def policy(account: Account) -> Observations:
    """Ask IAM about each permission that the identity should have."""
    if account.session.permissions is None:
        raise NotCheckedError(
            "the permissions are those of polysync-airflow, which needs --conn-id"
        )
    source = policy_source(account.session.identity["Arn"])
    actions_of: dict[str, list[str]] = defaultdict(list)
    for action, resource in account.session.permissions(account.region):
        actions_of[resource].append(action)
    denied: list[tuple[str, str]] = []
    for resource, actions in actions_of.items():
        allowed = _allowed(account, source, actions, resource)
        for action in sorted(set(actions) - allowed):
            denied.append((action, resource))
    if not denied:
        yield {"policy": "all are allowed"}
        return
    names = ", ".join(sorted({action for action, _ in denied}))
    cures = " ".join(
        f"Allow {action} on {resource}." for action, resource in denied[:3]
    )
    yield {"policy": Observation(f"denied: {names}", cures)}


def _allowed(
    account: Account, source: str, actions: list[str], resource: str
) -> set[str]:
    """Return which actions the policies of the source allow on a resource."""
    if resource != "*":
        # The simulation takes no other pattern.
        resource = resource.replace("*", "polysync-verify")
    try:
        pages = account.pages(
            "SimulatePrincipalPolicy",
            service="iam",
            PolicySourceArn=source,
            ActionNames=actions,
            ResourceArns=[resource],
        )
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            reason = "IAM does not find the role: one with a path cannot be simulated"
            raise NotCheckedError(reason) from None
        raise
    return {
        result["EvalActionName"]
        for page in pages
        for result in page["EvaluationResults"]
        if result["EvalDecision"] == "allowed"
    }
