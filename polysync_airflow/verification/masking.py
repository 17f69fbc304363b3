"""Removes from texts what identifies an account and who uses it. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

NO_ACCOUNT: Final = "0" * 12
_MASK: Final = "***"
_ACCOUNT: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_IDENTITY: Final = re.compile(
    r"(?<![\w/.-])(assumed-role|role|user|federated-user|group|policy|instance-profile)/[^\s'\",;)\]<]+"
)
_KEY_ID: Final = re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,124}\b")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return a text without account numbers, names of identities, access key ids, and secrets.

    :param secrets: texts that must not be shown.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, _MASK)
    text = _ACCOUNT.sub(NO_ACCOUNT, text)
    text = _IDENTITY.sub(rf"\1/{_MASK}", text)
    return _KEY_ID.sub(_MASK, text)
