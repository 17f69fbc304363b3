"""
Reads users, roles, policies and identity providers from moto's IAM.

moto keeps its state in the process, so this module has functions instead of a class.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from moto.backends import get_backend

from sagemaker_emulator.sagemaker.store import (
    ACCOUNT,
    DEFAULT_ROLE,
    DEFAULT_SESSION,
    PARTITIONS,
    partition,
)
from sagemaker_emulator.sign_in.policies import Policy

#: The role of all access keys that neither STS nor IAM knows.
_DEFAULT_ROLE_ID: Final = "AROAEMULATORROLE00000"
_SAGEMAKER: Final = {"Service": "sagemaker.amazonaws.com"}
_DEFAULT_TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": _SAGEMAKER, "Action": "sts:AssumeRole"}
    ],
}
_DEFAULT_PERMISSIONS: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


@dataclass(frozen=True)
class Caller:
    """
    The identity that sent a request.

    :param arn: the ARN of the user or the role session, as in GetCallerIdentity.
    :param account: the account id.
    :param user_id: the unique id, as in GetCallerIdentity.
    :param principal_arn: the ARN of the user or role, as in the condition key
        ``aws:PrincipalArn``.
    :param user_name: the name of the IAM user; None for other callers.
    :param role_arn: the ARN of the role of a role session; None for other callers.
    :param temporary: whether STS issued the credentials.
    :param session_policies: the policies that were passed when the session was created.
        They only restrict the permissions.
    """

    arn: str
    account: str
    user_id: str
    principal_arn: str
    user_name: str | None = None
    role_arn: str | None = None
    temporary: bool = False
    session_policies: tuple[Policy, ...] = ()

    @property
    def aws_partition(self) -> str:
        """The AWS partition of the caller."""
        return self.arn.split(":")[1]

    @property
    def own_principals(self) -> frozenset[str]:
        """The ARNs with which a trust policy names only this caller."""
        return frozenset({self.arn, self.principal_arn})

    @property
    def account_principals(self) -> frozenset[str]:
        """
        The names with which a trust policy names all principals in the caller's
        account.
        """
        return frozenset(
            {self.account, f"arn:{self.aws_partition}:iam::{self.account}:root"}
        )

    def context(self, region: str) -> dict[str, list[str]]:
        """
        Return the condition keys that every request of this caller has.

        Reference:
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
        """
        user_names = []
        if self.user_name:
            user_names.append(self.user_name)
        return {
            "aws:PrincipalArn": [self.principal_arn],
            "aws:PrincipalAccount": [self.account],
            "aws:RequestedRegion": [region],
            "aws:userid": [self.user_id],
            "aws:username": user_names,
        }


@dataclass(frozen=True)
class Role:
    """A role. ``max_session`` is the maximum session duration in seconds."""

    arn: str
    name: str
    id: str
    account: str
    trust_policy: Policy
    max_session: int

    def session(self, name: str, policies: tuple[Policy, ...]) -> Caller:
        """Return the caller identity of a session of this role."""
        aws_partition = self.arn.split(":")[1]
        return Caller(
            arn=f"arn:{aws_partition}:sts::{self.account}:assumed-role/{self.name}/{name}",
            account=self.account,
            user_id=f"{self.id}:{name}",
            principal_arn=self.arn,
            role_arn=self.arn,
            temporary=True,
            session_policies=policies,
        )


@dataclass(frozen=True)
class TemporaryKey:
    """An access key that moto created, so that moto knows its account."""

    access_key_id: str
    secret_access_key: str


def default_caller(region: str) -> Caller:
    """
    Return the owner of all access keys that nobody else has: a session of the default
    role.

    SDKs look for the role of whoever calls, as in a notebook, and find none of the
    account's root user.
    """
    aws_partition = partition(region)
    arn = default_role_arn(aws_partition)
    session = f"assumed-role/{DEFAULT_ROLE}/{DEFAULT_SESSION}"
    session_arn = f"arn:{aws_partition}:sts::{ACCOUNT}:{session}"
    return Caller(
        session_arn, ACCOUNT, f"{_DEFAULT_ROLE_ID}:{DEFAULT_SESSION}", arn, role_arn=arn
    )


def default_role_arn(aws_partition: str) -> str:
    """Return the ARN of the default role."""
    return f"arn:{aws_partition}:iam::{ACCOUNT}:role/{DEFAULT_ROLE}"


def create_default_role() -> None:
    """
    Create the default role in each partition: SageMaker may assume it, and it may do
    everything.
    """
    for aws_partition in PARTITIONS:
        backend = get_backend("iam")[ACCOUNT][aws_partition]
        created = backend.create_role(
            role_name=DEFAULT_ROLE,
            assume_role_policy_document=json.dumps(_DEFAULT_TRUST),
            path="/",
            permissions_boundary=None,
            description="The role of all access keys that the emulator does not know",
            tags=[],
            max_session_duration="43200",
        )
        # The id is in the UserId of a session. moto invents another one after each
        # reset.
        backend.roles[_DEFAULT_ROLE_ID] = backend.roles.pop(created.id)
        created.id = _DEFAULT_ROLE_ID
        backend.put_role_policy(
            DEFAULT_ROLE, "Everything", json.dumps(_DEFAULT_PERMISSIONS)
        )


def user(access_key_id: str, region: str) -> tuple[Caller, bool] | None:
    """
    Return the IAM user that owns an access key and whether the key is active, or None
    if no user owns it.
    """
    for account, backends in [*get_backend("iam").items()]:
        for owner in [*backends[partition(region)].users.values()]:
            for key in owner.access_keys:
                if key.access_key_id == access_key_id:
                    caller = Caller(
                        owner.arn, account, owner.id, owner.arn, user_name=owner.name
                    )
                    return caller, key.status == "Active"
    return None


def role(arn: str) -> Role | None:
    """Return a role, or None if it does not exist."""
    account, aws_partition = account_and_partition(arn)
    for entry in [*get_backend("iam")[account][aws_partition].get_roles()]:
        if entry.arn == arn:
            trust = json.loads(entry.assume_role_policy_document)
            return Role(
                arn,
                entry.name,
                entry.id,
                account,
                trust,
                int(entry.max_session_duration or 3600),
            )
    return None


def oidc_audiences(provider_arn: str) -> list[str] | None:
    """
    Return the client ids of an OpenID Connect provider in IAM, or None if the provider
    does not exist.
    """
    account, aws_partition = account_and_partition(provider_arn)
    provider = get_backend("iam")[account][aws_partition].open_id_providers.get(
        provider_arn
    )
    if provider is None:
        return None
    return list(provider.client_id_list)


def identity_policies(principal_arn: str) -> list[Policy] | None:
    """
    Return all policies of a user, including those of its groups, of a group or of a
    role.

    :param principal_arn: the ARN of the user, the group or the role.
    :return: the policies; None if the user, the group or the role does not exist.
    """
    account, aws_partition = account_and_partition(principal_arn)
    backend = get_backend("iam")[account][aws_partition]
    groups = [*backend.groups.values()]
    principals: list[Any] = [*backend.users.values(), *groups, *backend.get_roles()]
    owners = [principal for principal in principals if principal.arn == principal_arn]
    if not owners:
        return None
    # A user also has the policies of its groups.
    owners += [group for group in groups if owners[0] in group.users]
    inline = [text for owner in owners for text in owner.policies.values()]
    attached = [
        _default_document(policy)
        for owner in owners
        for policy in owner.managed_policies.values()
    ]
    return [json.loads(text) for text in inline + attached]


def managed_policies(
    arns: Iterable[str], account: str, aws_partition: str
) -> list[Policy]:
    """
    Return the managed policies with these ARNs. ARNs that do not exist are ignored.
    """
    policies = get_backend("iam")[account][aws_partition].managed_policies
    return [
        json.loads(_default_document(policies[arn])) for arn in arns if arn in policies
    ]


def create_temporary_key(account: str, aws_partition: str) -> TemporaryKey:
    """Create an access key in an account, for a session."""
    key = get_backend("iam")[account][aws_partition].create_temp_access_key()
    return TemporaryKey(key.access_key_id, key.secret_access_key)


def account_and_partition(arn: str) -> tuple[str, str]:
    """
    Return the account and the partition in an ARN, or those of the emulator if the ARN
    has none.
    """
    parts = arn.split(":")
    if len(parts) > 5 and parts[4].isdigit():
        return parts[4], parts[1]
    return ACCOUNT, "aws"


def _default_document(policy: Any) -> str:
    text: str = next(
        version.document for version in policy.versions if version.is_default
    )
    return text
