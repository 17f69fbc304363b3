"""
Describes a run: a summary, and a report as JSON that can be attached to an issue.

Neither has the number of an account, the name of a role or user, or a secret: ``mask``
removes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from sagemaker_emulator.verify.models import Result, Verdict

# The version of the report's format.
VERSION: Final = 1
_NO_ACCOUNT: Final = "0" * 12
_MASK: Final = "***"
# No secret is shorter. The invented keys of an emulator may be a word that other texts
# have, too.
_MIN_SECRET: Final = 8
_ACCOUNT: Final = re.compile(r"(?<![0-9])[0-9]{12}(?![0-9])")
_IDENTITY: Final = re.compile(
    r"(?<![\w/.-])(assumed-role|role|user|federated-user|group|policy|instance-profile)/[^\s'\",;)\]<]+"
)
_KEY_ID: Final = re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,124}\b")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return a text without account numbers, names of identities, access key ids, and
    secrets.

    :param secrets: texts that must not be shown.
    """
    # The longest first: a secret may be a part of another one.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, _MASK)
    text = _ACCOUNT.sub(_NO_ACCOUNT, text)
    text = _IDENTITY.sub(rf"\1/{_MASK}", text)
    return _KEY_ID.sub(_MASK, text)


def summary(
    results: Sequence[Result],
    secrets: Sequence[str] = (),
    *,
    is_aws: bool = True,
    is_verbose: bool = False,
) -> str:
    """
    Return the summary of a run: the verdicts of each subject, what differs, and why
    others were not checked.

    A check that differs or fails has lines below: the belief, its source, what was
    expected, figures and texts of AWS, and what relies on the belief. Only what was
    seen is masked: the other texts are those of ``beliefs.toml``.

    :param is_aws: whether the endpoint is one of AWS; otherwise, the first line says
        that it is not.
    :param is_verbose: whether it also has a line for each check.
    """
    width = max(len(result.belief.id) for result in results)

    def row(result: Result) -> str:
        return (
            f"{result.belief.id:{width}}  {result.verdict.value:11} "
            f" {mask(result.seen, secrets)}"
        )

    lines: list[str] = []
    if not is_aws:
        lines += ["This is not AWS.", ""]
    if is_verbose:
        lines += [row(result) for result in results]
    for subject, group in groupby(results, lambda result: result.belief.subject):
        lines.append(f"{subject:{width}}  {in_words([*group])}")

    for result in results:
        if not has_failed([result]):
            continue
        belief = result.belief
        lines += ["", row(result)]
        lines.append(f"    {belief.sentence}")
        lines.append(f"    Source: {belief.source or 'none, it is unconfirmed'}")
        lines.append(f"    Expected: {belief.expected}")
        if result.detail:
            lines.append(f"    {mask(result.detail, secrets)}")
        if result.verdict is Verdict.DIFFERS:
            relying = ", ".join(belief.relied_on_by)
            lines.append(f"    This changes what these rely on: {relying}")

    for reason, ids in _ids_by_reason(results).items():
        lines.append("")
        lines.append(f"{Verdict.NOT_CHECKED}: {mask(reason, secrets)}")
        lines.append(f"    {', '.join(ids)}")
    return "\n".join([*lines, ""])


def _ids_by_reason(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the ids of the beliefs that were not checked, by the reason."""
    ids: dict[str, list[str]] = {}
    for result in results:
        if result.verdict is Verdict.NOT_CHECKED:
            ids.setdefault(result.seen, []).append(result.belief.id)
    return ids


def count(results: Sequence[Result]) -> dict[str, int]:
    """Return how many checks have each verdict."""
    counted = Counter(result.verdict for result in results)
    return {verdict.value: counted[verdict] for verdict in Verdict}


def in_words(results: Sequence[Result]) -> str:
    """Return how many checks have each verdict, in words, without those with none."""
    return ", ".join(
        f"{number} {verdict}" for verdict, number in count(results).items() if number
    )


def has_failed(results: Sequence[Result]) -> bool:
    """Return whether a check differs, or could not be made because of an error."""
    return any(result.verdict in (Verdict.DIFFERS, Verdict.ERROR) for result in results)


def as_json(
    results: Sequence[Result],
    about: dict[str, str],
    at: datetime,
    secrets: Sequence[str],
    is_complete: bool,
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
                "source": result.belief.source or None,
                "seen": mask(result.seen, secrets),
                "detail": mask(result.detail, secrets),
                "verdict": result.verdict.value,
                "seconds": round(result.seconds, 1),
                "relied_on_by": list(result.belief.relied_on_by),
            }
            for result in results
        ],
    }
