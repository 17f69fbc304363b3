"""
The sign-in settings: how strictly callers are checked, and how long issued credentials
are valid.

As JSON (a member that is omitted keeps its value; a reset restores the values at the
start of the emulator)::

    {"enforce_iam": true,       enforce the policies in IAM on pipeline operations;
                                see `authorization`
     "sts": {"lifetime": 3,     the lifetime of credentials that are issued from now on,
                                in seconds; may be below AWS's minimum of 900;
                                null (default): as requested
             "clock": "real"},  or "emulated": the clock by which their Expiration is
                                set and enforced
     "issuers": {"https://login.example/": {"keys": [...]}}}
                                a JSON Web Key Set that replaces the keys that the
                                issuer publishes; null removes it

By default, credentials expire by the host's clock, whatever the emulator's clock is.
botocore and all other AWS clients compare the Expiration with the host's clock. With
any other clock they would refresh the credentials too late, never, or before every
request. ``"clock": "emulated"`` is for tests of clients whose own clock follows the
emulator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from jwt import PyJWKSet
from jwt.exceptions import PyJWTError

CLOCKS = ("real", "emulated")


class SignInError(ValueError):
    """Raised when sign-in settings are invalid; the message names the member."""


@dataclass(frozen=True)
class SettingValues:
    """The values of all settings at one time. ``lifetime`` is in seconds."""

    enforce_iam: bool = False
    lifetime: float | None = None
    clock: str = "real"
    issuers: Mapping[str, PyJWKSet] = field(default_factory=dict)


class SignInSettings:
    """
    The settings of a running emulator.

    :param enforce_iam: the initial value of ``enforce_iam``, which a reset restores.
    """

    def __init__(self, enforce_iam: bool = False) -> None:
        self._initial = SettingValues(enforce_iam)
        self.values = self._initial

    def reset(self) -> None:
        """Restore the initial values."""
        self.values = self._initial

    def as_json(self) -> dict[str, Any]:
        """
        Return the settings in their JSON form. Of the issuers, it contains only the
        names.
        """
        values = self.values
        sts = {"lifetime": values.lifetime, "clock": values.clock}
        return {
            "enforce_iam": values.enforce_iam,
            "sts": sts,
            "issuers": sorted(values.issuers),
        }

    def update(self, document: Mapping[str, Any]) -> None:
        """
        Change the settings that a document contains.

        :param document: the settings in their JSON form.
        :raises SignInError: if a member is unknown or has the wrong type. No setting is
            changed then.
        """
        _check_object(document, "the document")
        _check_members(document, "the document", {"enforce_iam", "sts", "issuers"})
        changed = self.values
        if "enforce_iam" in document:
            if not isinstance(document["enforce_iam"], bool):
                raise SignInError(
                    f"enforce_iam is {document['enforce_iam']!r}; it must be true or"
                    " false"
                )
            changed = replace(changed, enforce_iam=document["enforce_iam"])
        sts = document.get("sts", {})
        _check_object(sts, "sts")
        _check_members(sts, "sts", {"lifetime", "clock"})
        if "lifetime" in sts:
            changed = replace(changed, lifetime=_lifetime(sts["lifetime"]))
        if "clock" in sts:
            if sts["clock"] not in CLOCKS:
                raise SignInError(
                    f"sts.clock is {sts['clock']!r}, not one of {list(CLOCKS)}"
                )
            changed = replace(changed, clock=sts["clock"])
        if "issuers" in document:
            changed = replace(
                changed, issuers=_issuers(changed.issuers, document["issuers"])
            )
        self.values = changed


def _check_object(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise SignInError(f"{where} is not a JSON object")


def _check_members(document: Mapping[str, Any], where: str, allowed: set[str]) -> None:
    unknown = sorted(document.keys() - allowed)
    if unknown:
        raise SignInError(
            f"{where} has unknown members {unknown}; allowed are {sorted(allowed)}"
        )


def _lifetime(value: Any) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not isfinite(value)
        or value <= 0
    ):
        raise SignInError(
            f"sts.lifetime is {value!r}; it must be a number of seconds greater than 0"
        )
    return float(value)


def _issuers(before: Mapping[str, PyJWKSet], document: Any) -> dict[str, PyJWKSet]:
    _check_object(document, "issuers")
    after = dict(before)
    for issuer, keys in document.items():
        if keys is None:
            after.pop(issuer, None)
            continue
        _check_object(keys, f"issuers[{issuer!r}]")
        try:
            after[issuer] = PyJWKSet.from_dict(dict(keys))
        except (AttributeError, PyJWTError, TypeError, ValueError) as error:
            raise SignInError(
                f"issuers[{issuer!r}] is not a JSON Web Key Set: {error}"
            ) from error
    return after
