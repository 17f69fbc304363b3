"""Evaluates the trust policy of a role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sagemaker_emulator.sign_in.policies import (
    AuthorizationRequest,
    Context,
    Decision,
    Policy,
    evaluate,
)


def allows(policy: Policy, action: str, principals: Mapping[str, Iterable[str]], context: Context) -> bool:
    """
    Return whether a trust policy allows an action.

    :param policy: the trust policy.
    :param action: the action, such as ``sts:AssumeRole``.
    :param principals: all names of the caller, by principal type (``AWS`` or ``Federated``).
    :param context: the values of the condition keys.
    """
    return evaluate([policy], AuthorizationRequest(action, None, context, principals)) is Decision.ALLOWED
