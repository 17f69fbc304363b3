"""
What is told of a run: the lines of a table, and a report as JSON that can be attached to an issue.

Neither has the number of an account, the name of a role or user, or a secret: ``mask`` removes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from polysync_airflow.verification.models import Belief, Result, Verdict

# Of the format.
VERSION: Final = 1
NO_ACCOUNT: Final = "0" * 12
_MASK: Final = "***"
_ACCOUNT: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_IDENTITY: Final = re.compile(
    r"\b(assumed-role|role|user|federated-user|group|policy|instance-profile)/[^\s'\",;)\]]+"
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


def change(belief: Belief) -> str:
    """Return what a difference means."""
    return f"This changes what these rely on: {', '.join(belief.relied_on_by)}"


def row(result: Result, secrets: Iterable[str] = ()) -> tuple[str, str, str, str]:
    """
    Return a line of the table: check, expected, seen, verdict.

    Of a check that needs attention, it has also the belief, figures and texts of AWS, and what relies on it.
    """
    belief, check, seen = result.belief, result.belief.id, mask(result.seen, secrets)
    if has_failed([result]):
        check += f"\n{belief.sentence}"
        seen += f"\n({mask(result.detail, secrets)})" if result.detail else ""
    if result.verdict is Verdict.DIFFERS:
        seen += f"\n{change(belief)}"
    return check, belief.expected, seen, result.verdict.value


def count(results: Sequence[Result]) -> dict[str, int]:
    """Return how many checks have each verdict."""
    counted = Counter(result.verdict for result in results)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def has_failed(results: Sequence[Result]) -> bool:
    """Return whether a check differs, or could not be made because of an error."""
    return any(result.verdict in (Verdict.DIFFERS, Verdict.ERROR) for result in results)


def as_json(
    results: Sequence[Result],
    *,
    about: Mapping[str, str],
    at: datetime,
    secrets: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Return the report.

    :param about: what ran against what: versions, the region, the sign-in method.
    :param at: when.
    :param secrets: texts that must not be shown.
    """
    return {
        "version": VERSION,
        "at": at.isoformat(timespec="seconds"),
        **{name: mask(text, secrets) for name, text in about.items()},
        "verdicts": count(results),
        "checks": [_check(result, secrets) for result in results],
    }


def _check(result: Result, secrets: Sequence[str]) -> dict[str, Any]:
    belief = result.belief
    return {
        "id": belief.id,
        "sentence": belief.sentence,
        "expected": belief.expected,
        "seen": mask(result.seen, secrets),
        "detail": mask(result.detail, secrets),
        "verdict": result.verdict.value,
        "seconds": round(result.seconds, 1),
        "relied_on_by": list(belief.relied_on_by),
    }
