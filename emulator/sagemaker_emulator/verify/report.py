"""
What is told of a run: the lines of a table, and a report as JSON that can be attached to an issue.

Neither has the number of an account, the name of a role or user, or a secret: ``mask`` removes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sagemaker_emulator.verify.models import Result, Verdict

# Of the format.
VERSION: Final = 1
_NO_ACCOUNT: Final = "0" * 12
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
    text = _ACCOUNT.sub(_NO_ACCOUNT, text)
    text = _IDENTITY.sub(rf"\1/{_MASK}", text)
    return _KEY_ID.sub(_MASK, text)


def table(results: Sequence[Result], secrets: Sequence[str] = ()) -> str:
    """
    Return one line for each check: the check, the verdict, and what was seen.

    A check that needs attention has lines below: the belief, what was expected, figures and texts of AWS, and
    what relies on the belief.
    """
    width = max(len(result.belief.id) for result in results)
    return "".join(mask(line, secrets) + "\n" for result in results for line in _lines(result, width))


def _lines(result: Result, width: int) -> Iterator[str]:
    yield f"{result.belief.id:{width}}  {result.verdict.value:11}  {result.seen}"
    if not has_failed([result]):
        return
    texts = [result.belief.sentence, f"Expected: {result.belief.expected}", result.detail]
    if result.verdict is Verdict.DIFFERS:
        texts.append(f"This changes what these rely on: {', '.join(result.belief.relied_on_by)}")
    yield from (f"    {text}" for text in texts if text)


def count(results: Sequence[Result]) -> dict[str, int]:
    """Return how many checks have each verdict."""
    counted = Counter(result.verdict for result in results)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def has_failed(results: Sequence[Result]) -> bool:
    """Return whether a check differs, or could not be made because of an error."""
    return any(result.verdict in (Verdict.DIFFERS, Verdict.ERROR) for result in results)


def as_json(
    results: Sequence[Result], about: dict[str, str], at: datetime, secrets: Sequence[str], is_complete: bool
) -> dict[str, Any]:
    """
    Return the report.

    :param about: what ran against what: versions, the region, the sign-in method.
    :param at: when.
    :param secrets: texts that must not be shown.
    :param is_complete: whether the run was not ended before all checks were made.
    """
    return {
        "version": VERSION,
        "at": at.isoformat(timespec="seconds"),
        "complete": is_complete,
        **{name: mask(text, secrets) for name, text in about.items()},
        "verdicts": count(results),
        "checks": [
            {
                "id": result.belief.id,
                "sentence": result.belief.sentence,
                "expected": result.belief.expected,
                "seen": mask(result.seen, secrets),
                "detail": mask(result.detail, secrets),
                "verdict": result.verdict.value,
                "seconds": round(result.seconds, 1),
                "relied_on_by": list(result.belief.relied_on_by),
            }
            for result in results
        ],
    }
