"""A trust policy: whom a role lets in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polysync_airflow.emulator.sign_in.policies import Context, Policy, Question, Verdict, judge


def allows(policy: Policy, action: str, principals: Mapping[str, Iterable[str]], context: Context) -> bool:
    """Return whether a trust policy allows an action.

    :param action: such as ``sts:AssumeRole``.
    :param principals: all names the caller goes by, by kind of principal (``AWS`` or ``Federated``).
    :param context: the values of the condition keys.
    """
    return judge([policy], Question(action, None, context, principals)) is Verdict.ALLOWED
