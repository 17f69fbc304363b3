"""
The permissions of the identity that signs in, by IAM's simulation of its policies.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, Final

from botocore.exceptions import ClientError

from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.calls import code_of
from sagemaker_emulator.verify.models import NotCheckedError, Observations, Seen

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
    wanted: dict[str, list[str]] = defaultdict(list)
    for action, resource in account.session.permissions(account.region):
        wanted[resource].append(action)
    denied = [
        (action, resource)
        for resource, actions in wanted.items()
        for action in sorted({*actions} - _allowed(account, source, actions, resource))
    ]
    names = ", ".join(sorted({action for action, _ in denied}))
    cures = " ".join(
        f"Allow {action} on {resource}." for action, resource in denied[:3]
    )
    yield {"policy": Seen(f"denied: {names}", cures) if denied else "all are allowed"}


def _allowed(
    account: Account, source: str, actions: list[str], resource: str
) -> set[str]:
    # The simulation takes no patterns, except for all resources.
    name = resource if resource == "*" else resource.replace("*", "polysync-verify")
    request: dict[str, Any] = {
        "PolicySourceArn": source,
        "ActionNames": actions,
        "ResourceArns": [name],
    }
    try:
        pages = account.pages("SimulatePrincipalPolicy", service="iam", **request)
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            reason = "IAM does not find the role: one with a path cannot be simulated"
            raise NotCheckedError(reason) from None
        raise
    results = [each for page in pages for each in page["EvaluationResults"]]
    return {
        each["EvalActionName"] for each in results if each["EvalDecision"] == "allowed"
    }
