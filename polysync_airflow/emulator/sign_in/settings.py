"""The sign-in settings: how strict the emulator is with its callers, and how long its credentials live.

As JSON (a member that is left out stays as it is; a reset restores what the emulator was started with)::

    {"enforce_iam": true,       IAM's policies decide who may do what with pipelines; see `access`
     "sts": {"lifetime": 3,     how long credentials issued from now on live, in seconds, although AWS grants
                                no less than 900; null (default): as long as was asked for
             "clock": "real"},  or "emulated": the clock that their Expiration is shown and enforced by
     "issuers": {"https://login.example/": {"keys": [...]}}}
                                a JSON Web Key Set, used instead of what that issuer publishes; null: no more

Credentials expire by the host's clock unless told otherwise, whatever the emulator's own clock is: botocore
and every other AWS client compare an Expiration with the host's clock, so that with any other one they would
renew too late, never, or before every request. ``"clock": "emulated"`` is for clients under test whose own
idea of the time follows the emulator's.
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
    """Settings that cannot be understood; the message says which member."""


@dataclass(frozen=True)
class Values:
    """One state of the settings; ``lifetime`` is in seconds."""

    enforce_iam: bool = False
    lifetime: float | None = None
    clock: str = "real"
    issuers: Mapping[str, PyJWKSet] = field(default_factory=dict)


class SignIn:
    """The settings of a running emulator.

    :param enforce_iam: what to start with, and to go back to on a reset.
    """

    def __init__(self, enforce_iam: bool = False) -> None:
        self._first = Values(enforce_iam)
        self.values = self._first

    def reset(self) -> None:
        """Go back to the beginning."""
        self.values = self._first

    def as_json(self) -> dict[str, Any]:
        """Return the settings; of the keys only whose they are."""
        now = self.values
        sts = {"lifetime": now.lifetime, "clock": now.clock}
        return {"enforce_iam": now.enforce_iam, "sts": sts, "issuers": sorted(now.issuers)}

    def update(self, document: Mapping[str, Any]) -> None:
        """Change what a document names.

        :raises SignInError: if a member is unknown or has a wrong type; then nothing is changed.
        """
        _known(document, "the document", {"enforce_iam", "sts", "issuers"})
        changed = self.values
        if "enforce_iam" in document:
            if not isinstance(document["enforce_iam"], bool):
                raise SignInError(f"enforce_iam is {document['enforce_iam']!r}, neither true nor false")
            changed = replace(changed, enforce_iam=document["enforce_iam"])
        sts = _known(document.get("sts", {}), "sts", {"lifetime", "clock"})
        if "lifetime" in sts:
            changed = replace(changed, lifetime=_lifetime(sts["lifetime"]))
        if "clock" in sts:
            if sts["clock"] not in CLOCKS:
                raise SignInError(f"sts.clock is {sts['clock']!r}, not one of {list(CLOCKS)}")
            changed = replace(changed, clock=sts["clock"])
        if "issuers" in document:
            changed = replace(changed, issuers=_issuers(changed.issuers, document["issuers"]))
        self.values = changed


def _known(document: Any, where: str, allowed: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise SignInError(f"{where} is not a JSON object")
    if allowed is not None and (unknown := sorted(document.keys() - allowed)):
        raise SignInError(f"{where} has unknown members {unknown}; known are {sorted(allowed)}")
    return document


def _lifetime(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise SignInError(f"sts.lifetime is {value!r}, not a number of seconds greater than 0")
    return float(value)


def _issuers(before: Mapping[str, PyJWKSet], document: Any) -> dict[str, PyJWKSet]:
    after = dict(before)
    for issuer, keys in _known(document, "issuers", None).items():
        if keys is None:
            after.pop(issuer, None)
            continue
        try:
            after[issuer] = PyJWKSet.from_dict(dict(_known(keys, f"issuers[{issuer!r}]", None)))
        except PyJWTError as error:
            raise SignInError(f"issuers[{issuer!r}] is no JSON Web Key Set: {error}") from error
    return after
