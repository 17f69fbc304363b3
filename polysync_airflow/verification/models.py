"""A belief, what a check has seen, and the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from polysync_airflow.exceptions import CONFLICT, RESOURCE_NOT_FOUND, VALIDATION
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.calls import Refusal

# What checks see of an answer.
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused with {}"
IN_CONFLICT: Final = REFUSED.format(CONFLICT)
INVALID: Final = REFUSED.format(VALIDATION)
NOT_FOUND: Final = REFUSED.format(RESOURCE_NOT_FOUND)


class NotCheckedError(Exception):
    """Raised by a check that cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What a check has seen.

    :param value: in the words of ``Belief.expected``, with which it is compared.
    :param detail: figures, and texts of AWS, which nothing is compared with.
    """

    value: str
    detail: str = ""


def told(answer: object, accepted: str = ACCEPTED) -> Seen:
    """Return whether AWS has accepted a request, or with which error it has refused it."""
    if isinstance(answer, Refusal):
        return Seen(REFUSED.format(answer.code), answer.text)
    return Seen(accepted)


def named_by(answer: object, name: str) -> Seen:
    """Return what ``told`` does, and whether the text of a refusal has a name."""
    seen = told(answer)
    if not isinstance(answer, Refusal):
        return seen
    verb = "names" if name in answer.text else "does not name"
    return Seen(f"{seen.value}, which {verb} it", answer.text)


def limit_text(seconds: float) -> str:
    """Return what is seen of a time that is within a limit."""
    return f"within {seconds:.0f} s"


def within(seconds: float, limit: float) -> Seen:
    """Return whether a time is within a limit."""
    prefix = "" if seconds <= limit else "not "
    return Seen(f"{prefix}{limit_text(limit)}", f"{seconds:.1f} s")


@dataclass(frozen=True, kw_only=True)
class Belief:
    """
    What the provider believes of AWS.

    :param id: the subject and a name, such as ``start.same-token``.
    :param sentence: the belief.
    :param expected: what the check sees if it is true.
    :param relied_on_by: the modules and pages that depend on it, as paths from the root of the repository.
    :param check: looks at the account.
    :param option: the option without which it is not checked; None for none.
    """

    id: str
    sentence: str
    expected: str
    relied_on_by: tuple[str, ...]
    check: Callable[[Account], Seen]
    option: str | None = None

    @property
    def subject(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]


def belief_maker(subject: str, option: str | None = None) -> Callable[..., Belief]:
    """
    Return a function that makes the beliefs of a subject.

    It takes the second part of the id, the sentence, what is expected, the check, and what relies on it.

    :param option: the option without which they are not checked; None for none.
    """

    def make(
        name: str, sentence: str, expected: str, check: Callable[[Account], Seen], *relied_on_by: str
    ) -> Belief:
        return Belief(
            id=f"{subject}.{name}",
            sentence=sentence,
            expected=expected,
            check=check,
            relied_on_by=relied_on_by,
            option=option,
        )

    return make


class Verdict(StrEnum):
    """What is concluded from a check."""

    AS_BELIEVED = "as believed"
    DIFFERS = "differs"
    NOT_CHECKED = "not checked"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of a check.

    :param seen: what was seen; of an error or of what was not checked, why.
    :param seconds: how long the check took, with what it shares with others if it was the first of them.
    """

    belief: Belief
    verdict: Verdict
    seen: str
    detail: str = ""
    seconds: float = 0.0
