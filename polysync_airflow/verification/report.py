"""
What is told of a run: the lines of a table, and a report as JSON that can be attached to an issue.

Neither has the number of an account, the name of a role or user, or a secret: ``mask`` removes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from polysync_airflow.verification.masking import mask
from polysync_airflow.verification.models import Belief, Result, Verdict

# Of the format.
VERSION: Final = 1


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
    is_complete: bool = True,
    secrets: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Return the report.

    :param is_complete: whether the run was not ended before all checks were made.
    :param about: what ran against what: versions, the region, the sign-in method.
    :param at: when.
    :param secrets: texts that must not be shown.
    """
    return {
        "version": VERSION,
        "at": at.isoformat(timespec="seconds"),
        "complete": is_complete,
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
