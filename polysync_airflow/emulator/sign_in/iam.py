"""IAM as moto keeps it: the users, roles, policies and identity providers the emulator looks up.

moto's state belongs to the process, so these are functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend

from polysync_airflow.emulator.sagemaker.store import ACCOUNT, partition
from polysync_airflow.emulator.sign_in.policies import Policy


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    :param arn: of the user, the role session or the account's root, as GetCallerIdentity shows it.
    :param principal_arn: of the user or role behind it, as the condition key ``aws:PrincipalArn`` has it.
    :param user_name: None unless it is an IAM user.
    :param role_arn: None unless it is a role session.
    :param temporary: whether STS issued the credentials.
    :param session_policies: given when the session was made; they only ever take permissions away.
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
    def is_root(self) -> bool:
        """Return whether it is the account's root, whom no identity policy binds."""
        return self.user_name is None and self.role_arn is None

    @property
    def place(self) -> str:
        """Return the AWS partition."""
        return self.arn.split(":")[1]

    @property
    def names(self) -> frozenset[str]:
        """Return the names by which a trust policy means this caller and nobody else."""
        return frozenset({self.arn, self.principal_arn})

    @property
    def account_names(self) -> frozenset[str]:
        """Return the names by which a trust policy means everybody in the caller's account."""
        return frozenset({self.account, f"arn:{self.place}:iam::{self.account}:root"})

    def context(self, region: str) -> dict[str, list[str]]:
        """Return the condition keys that every request of this caller has.

        Reference: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
        """
        return {
            "aws:PrincipalArn": [self.principal_arn],
            "aws:PrincipalAccount": [self.account],
            "aws:RequestedRegion": [region],
            "aws:userid": [self.user_id],
            "aws:username": [self.user_name] if self.user_name else [],
        }


@dataclass(frozen=True)
class Role:
    """A role; ``max_session`` is in seconds."""

    arn: str
    name: str
    id: str
    account: str
    trust_policy: Policy
    max_session: int

    def session(self, name: str, policies: tuple[Policy, ...]) -> Caller:
        """Return who a session of this role is."""
        place = self.arn.split(":")[1]
        return Caller(
            arn=f"arn:{place}:sts::{self.account}:assumed-role/{self.name}/{name}",
            account=self.account,
            user_id=f"{self.id}:{name}",
            principal_arn=self.arn,
            role_arn=self.arn,
            temporary=True,
            session_policies=policies,
        )


@dataclass(frozen=True)
class TemporaryKey:
    """A new access key whose account moto knows; the secret is for its owner only."""

    access_key_id: str
    secret_access_key: str


def root(region: str) -> Caller:
    """Return the root of the emulator's account."""
    arn = f"arn:{partition(region)}:iam::{ACCOUNT}:root"
    return Caller(arn, ACCOUNT, user_id=ACCOUNT, principal_arn=arn)


def user(access_key_id: str, region: str) -> tuple[Caller, bool] | None:
    """Return whose access key it is and whether the key is active, or None if it is no IAM user's."""
    for account, backends in [*get_backend("iam").items()]:
        for owner in [*backends[partition(region)].users.values()]:
            for key in owner.access_keys:
                if key.access_key_id == access_key_id:
                    caller = Caller(owner.arn, account, owner.id, owner.arn, user_name=owner.name)
                    return caller, key.status == "Active"
    return None


def role(arn: str) -> Role | None:
    """Return a role, or None if it does not exist."""
    account, place = account_and_partition(arn)
    for found in [*get_backend("iam")[account][place].get_roles()]:
        if found.arn == arn:
            trust = json.loads(found.assume_role_policy_document)
            return Role(arn, found.name, found.id, account, trust, int(found.max_session_duration or 3600))
    return None


def oidc_audiences(provider_arn: str) -> list[str] | None:
    """Return the client ids of an OpenID Connect provider in IAM, or None if it does not exist."""
    account, place = account_and_partition(provider_arn)
    provider = get_backend("iam")[account][place].open_id_providers.get(provider_arn)
    return None if provider is None else list(provider.client_id_list)


def identity_policies(caller: Caller) -> list[Policy]:
    """Return all policies of a user (with those of its groups) or of a session's role."""
    backend = get_backend("iam")[caller.account][caller.place]
    owners: list[Any] = []
    if caller.user_name is not None and caller.user_name in backend.users:
        owner = backend.users[caller.user_name]
        owners = [owner, *(group for group in [*backend.groups.values()] if owner in group.users)]
    elif caller.role_arn is not None:
        owners = [found for found in [*backend.get_roles()] if found.arn == caller.role_arn]
    found = [policy for owner in owners for policy in owner.policies.values()]
    attached = (policy for owner in owners for policy in owner.managed_policies.values())
    return [json.loads(text) for text in (*found, *map(_default_document, attached))]


def managed_policies(arns: Iterable[str], account: str, place: str) -> list[Policy]:
    """Return the managed policies with these ARNs; those that do not exist are left out."""
    known = get_backend("iam")[account][place].managed_policies
    return [json.loads(_default_document(known[arn])) for arn in arns if arn in known]


def temporary_key(account: str, place: str) -> TemporaryKey:
    """Make a new access key of an account, for a session."""
    key = get_backend("iam")[account][place].create_temp_access_key()
    return TemporaryKey(key.access_key_id, key.secret_access_key)


def account_and_partition(arn: str) -> tuple[str, str]:
    """Return the account and the partition in an ARN, or those of the emulator if it is none."""
    parts = arn.split(":")
    return (parts[4], parts[1]) if len(parts) > 5 and parts[4].isdigit() else (ACCOUNT, "aws")


def _default_document(policy: Any) -> str:
    text: str = next(version.document for version in policy.versions if version.is_default)
    return text
