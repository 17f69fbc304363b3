"""What a check has seen, and the verdict. ``beliefs.toml`` has the beliefs."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

AWS_ERRORS: Final = (BotoCoreError, ClientError)
CONFLICT: Final = "ConflictException"
NOT_FOUND: Final = "ResourceNotFound"
INVALID: Final = "ValidationException"
REFUSALS: Final = (CONFLICT, NOT_FOUND, INVALID)


class VerifyError(Exception):
    """Raised when the command line is wrong, or a check cannot be made."""


class NotCheckedError(VerifyError):
    """
    Raised or returned by a scenario for what cannot be checked here; the text says why.

    A scenario raises it when a premise is not true. The error is then about all beliefs
    that the scenario has not observed yet.
    """


Response = Mapping[str, Any]


@dataclass(frozen=True)
class Observation:
    """
    What a scenario has observed.

    :param value: a text in the words of ``Belief.expected``, for the comparison.
    :param detail: figures and texts of AWS, which are only shown.
    """

    value: str
    detail: str = ""

    def __str__(self) -> str:
        return self.value


class Refusal(Observation):
    """
    An answer of AWS that refuses a request: the error code in words, and AWS's message.
    """


Observed = Observation | str | NotCheckedError
#: What a scenario observes, in this order, by the names of the beliefs.
Observations = Iterator[Mapping[str, Observed]]


def worded(answer: Observed, wanted: str, yes: str, no: str) -> Observed:
    """
    Return an answer. A refusal also says whether its message has the wanted words.

    :param yes: the text if it has them, such as ``which names it``.
    :param no: the text if it has not.
    """
    if not isinstance(answer, Refusal):
        return answer
    if wanted in answer.detail:
        return Observation(f"{answer.value}, {yes}", answer.detail)
    return Observation(f"{answer.value}, {no}", answer.detail)


def one_of(
    is_first: object, first: str, second: str, detail: object = ""
) -> Observation:
    """Return which of two possibilities was observed: the first one, or the second."""
    if is_first:
        return Observation(first, str(detail))
    return Observation(second, str(detail))


def within(seconds: float, limit: float) -> Observation:
    """Return whether a time is within a limit."""
    text = f"within {limit:.0f} s"
    return one_of(seconds <= limit, text, f"not {text}", f"{seconds:.1f} s")


@dataclass(frozen=True, kw_only=True)
class Belief:
    """
    What is believed of AWS.

    :param subject: the first part of its id, such as ``start``.
    :param scenario: the function that observes it, in the module of the subject.
    :param name: the second part of its id.
    :param sentence: the belief.
    :param expected: what is seen if it is true.
    :param relied_on_by: the modules and pages that depend on it, as paths from the root
        of the repository.
    :param option: the option without which it is not checked; None for none.
    :param source: the page, issue or code that says so; empty for an unconfirmed one.
    :param if_false: what the provider does if it is not true; empty if that was not
        tried. An unconfirmed one has it.
    :param money: whether AWS bills a second execution, or one that nobody stops, if it
        is not true. It needs a source.
    :raises ValueError: an unconfirmed one has no ``if_false``, or is about money.
    """

    subject: str
    scenario: str
    name: str
    sentence: str
    expected: str
    relied_on_by: Sequence[str]
    option: str | None
    source: str = ""
    if_false: str = ""
    money: bool = False

    def __post_init__(self) -> None:
        if not self.source and (self.money or not self.if_false):
            raise ValueError(
                f"{self.id} is unconfirmed: give if_false, and not money, or a source"
            )

    @property
    def id(self) -> str:
        """The subject and the name, such as ``start.same-token``."""
        return f"{self.subject}.{self.name}"


_TEXT: Final = Path(__file__).with_name("beliefs.toml").read_text(encoding="utf-8")
_TABLES: Final[Mapping[str, Mapping[str, Any]]] = tomllib.loads(_TEXT)
#: The subjects, as titles of tables.
SUBJECTS: Final = {subject: str(table["title"]) for subject, table in _TABLES.items()}
#: Names the beliefs on which money depends, of all subjects.
MONEY: Final = "money"
#: Names those without a source.
UNCONFIRMED: Final = "unconfirmed"


BELIEFS: Final = tuple(
    Belief(
        subject=subject, scenario=scenario, name=name, option=table.get("option"), **row
    )
    for subject, table in _TABLES.items()
    for scenario, rows in table.items()
    if isinstance(rows, dict)
    for name, row in rows.items()
)


def choose(only: Sequence[str]) -> list[Belief]:
    """
    Return the beliefs that are named.

    :param only: ids, subjects such as ``stop``, ``money``, or ``unconfirmed``; empty
        for all.
    :raises VerifyError: a name is neither.
    """
    if not only:
        return list(BELIEFS)
    names = [*SUBJECTS, MONEY, UNCONFIRMED, *(belief.id for belief in BELIEFS)]
    for name in only:
        if name not in names:
            cure = f"the subjects are {', '.join(SUBJECTS)}"
            similar = difflib.get_close_matches(name, names, n=1)
            if similar:
                cure = f"did you mean {similar[0]}?"
            raise VerifyError(f"--only {name!r} is no check; {cure}")

    def is_named(belief: Belief) -> bool:
        if belief.money and MONEY in only:
            return True
        if not belief.source and UNCONFIRMED in only:
            return True
        return belief.id in only or belief.subject in only

    return [belief for belief in BELIEFS if is_named(belief)]


class Verdict(StrEnum):
    """What is concluded from a check."""

    AS_BELIEVED = "as believed"
    DIFFERS = "differs"
    NOT_CHECKED = "not checked"
    ERROR = "error"


@dataclass(frozen=True)
class Result:
    """
    The result of a check.

    :param seen: what was seen; of an error or of what was not checked, why.
    :param seconds: how long its scenario took, also for the other beliefs.
    """

    belief: Belief
    verdict: Verdict
    seen: str
    detail: str = ""
    seconds: float = 0.0
