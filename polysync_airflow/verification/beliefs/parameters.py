"""
Parameters of a start: which texts are values, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account
from polysync_airflow.verification.calls import Refusal
from polysync_airflow.verification.models import INVALID, Belief, Seen, told

# By declared type: the texts that are accepted, and those that are refused.
SPELLINGS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "Integer": (("8", "-3", "+3"), ("8.0", "8.5", "1_000", " 8 ", "True")),
    "Float": (("0.5", "1e-3", "2", ".5"), ("high", "nan", "inf")),
    "Boolean": (("True", "true", "False", "FALSE"), ("1", "yes")),
}
_DEFAULTS: Final = {"Integer": 1, "Float": 0.5, "Boolean": True, "String": "a"}
_LISTED: Final = {"Integer": "+3", "Float": "1e-3", "Boolean": "True"}


def _typed(account: Account) -> str:
    """Create a pipeline with a parameter of each type, of the same name."""
    declared = [definitions.parameter(kind, kind, default) for kind, default in _DEFAULTS.items()]
    choice = definitions.parameter("Choice", "String", "a", ["a", "b"])
    return account.create("typed", definitions.succeeding(*declared, choice))


def _start(account: Account, values: Mapping[str, str]) -> str | Refusal:
    parameters = [{"Name": name, "Value": value} for name, value in values.items()]
    return account.try_to_start(account.once(_typed), PipelineParameters=parameters)


def _text(accepted: Iterable[str], refused: Iterable[str]) -> str:
    lists = [", ".join(map(repr, values)) or "none" for values in (accepted, refused)]
    return f"accepts {lists[0]}; refuses {lists[1]}"


def _spellings(account: Account, *, kind: str) -> Seen:
    answers = {value: _start(account, {kind: value}) for values in SPELLINGS[kind] for value in values}
    refused = [value for value, answer in answers.items() if isinstance(answer, Refusal)]
    texts = [answer.text for answer in answers.values() if isinstance(answer, Refusal)]
    accepted = [value for value in answers if value not in refused]
    return Seen(_text(accepted, refused), texts[0] if texts else "")


def _as_sent(account: Account) -> Seen:
    answer = _start(account, _LISTED)
    if isinstance(answer, Refusal):
        return told(answer)
    account.wait_for_end(answer)
    listed = account.parameters(answer)
    return Seen(", ".join(listed.get(name, "none") for name in _LISTED))


def _defaults(account: Account) -> Seen:
    answer = _start(account, {})
    if isinstance(answer, Refusal):
        return told(answer)
    account.wait_for_end(answer)
    listed = account.parameters(answer)
    return Seen("listed" if listed.get("String") == "a" else "not listed")


def _refusal(account: Account, *, values: Mapping[str, str]) -> Seen:
    answer = _start(account, values)
    return told(answer)


def _naming_refusal(account: Account, *, values: Mapping[str, str]) -> Seen:
    answer = _start(account, values)
    if not isinstance(answer, Refusal):
        return Seen("accepted")
    (name,) = values
    quoted = f"'{name}'" in answer.text
    return Seen(f"{told(answer).value}, {'with' if quoted else 'without'} its name in quotes", answer.text)


def _missing(account: Account) -> Seen:
    name = account.create("required", definitions.succeeding(definitions.parameter("Text", "String")))
    answer = account.try_to_start(name)
    return told(answer)


_TYPES: Final = "polysync_airflow/execution/pipelines.py"
_PROBLEMS: Final = "polysync_airflow/execution/pipelines.py"
_PAGE: Final = "docs/how-to/parameters.md"
_MAPPING: Final = "polysync_airflow/aws/responses.py"
_CRITERIA: Final = "polysync_airflow/execution/search.py"

BELIEFS: Final = (
    *(
        Belief(
            id=f"parameter.{kind.lower()}",
            sentence=f"Which texts are values of a parameter of type {kind}.",
            expected=_text(*SPELLINGS[kind]),
            relied_on_by=(_TYPES, _PAGE),
            check=partial(_spellings, kind=kind),
        )
        for kind in SPELLINGS
    ),
    Belief(
        id="parameter.as-sent",
        sentence="AWS lists a value as it was sent.",
        expected=", ".join(_LISTED.values()),
        relied_on_by=(_CRITERIA, "docs/how-to/react-to-executions.md"),
        check=_as_sent,
    ),
    Belief(
        id="parameter.defaults",
        sentence="AWS lists the parameters of an execution that have their defaults, too.",
        expected="listed",
        relied_on_by=(_CRITERIA, "docs/how-to/react-to-executions.md"),
        check=_defaults,
    ),
    Belief(
        id="parameter.unknown",
        sentence="A parameter that is not declared is refused, and the text has its name in quotes.",
        expected=f"{INVALID}, with its name in quotes",
        relied_on_by=(_PROBLEMS, _MAPPING, _PAGE),
        check=partial(_naming_refusal, values={"Unknown": "a"}),
    ),
    Belief(
        id="parameter.wrong-type",
        sentence="A value of another type is refused, and the text has the name of the parameter in quotes.",
        expected=f"{INVALID}, with its name in quotes",
        relied_on_by=(_PROBLEMS, _MAPPING, _PAGE),
        check=partial(_naming_refusal, values={"Integer": "many"}),
    ),
    Belief(
        id="parameter.missing",
        sentence="A start without a parameter that has no default is refused.",
        expected=INVALID,
        relied_on_by=(_PROBLEMS, _PAGE),
        check=_missing,
    ),
    Belief(
        id="parameter.empty",
        sentence="An empty value is refused.",
        expected=INVALID,
        relied_on_by=("polysync_airflow/execution/models.py", _PAGE),
        check=partial(_refusal, values={"String": ""}),
    ),
    Belief(
        id="parameter.enum",
        sentence="A value that is not one of EnumValues is refused.",
        expected=INVALID,
        relied_on_by=(_TYPES, _PAGE),
        check=partial(_refusal, values={"Choice": "c"}),
    ),
    Belief(
        id="parameter.case",
        sentence="The names of parameters are case-sensitive.",
        expected=INVALID,
        relied_on_by=(_PROBLEMS, _PAGE),
        check=partial(_refusal, values={"STRING": "a"}),
    ),
)
