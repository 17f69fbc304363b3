"""
Parameters of a start: which texts are values, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observations,
    Observed,
    Refusal,
    one_of,
    worded,
)

# By declared type: the texts that are sent as values.
SPELLINGS: Final = {
    "Integer": ("8", "-3", "+3", "8.0", "8.5", "1_000", " 8 ", "True"),
    "Float": ("0.5", "1e-3", "2", ".5", "high", "nan", "inf"),
    "Boolean": ("True", "true", "False", "FALSE", "1", "yes"),
}
_DEFAULTS: Final = {"Integer": 1, "Float": 0.5, "Boolean": True, "String": "a"}
_SENT: Final = {"Integer": "+3", "Float": "1e-3", "Boolean": "True"}


def _typed(account: Account) -> str:
    """Create a pipeline with a parameter of each type, which has the type's name."""
    declared = [
        definitions.parameter(kind, kind, default)
        for kind, default in _DEFAULTS.items()
    ]
    choice = definitions.parameter("Choice", "String", "a", ["a", "b"])
    return account.create("typed", definitions.succeeding(*declared, choice))


def _start(account: Account, **values: str) -> str:
    parameters = [{"Name": name, "Value": value} for name, value in values.items()]
    return account.start(account.once(_typed), PipelineParameters=parameters)


def spellings(account: Account) -> Observations:
    """Start executions with texts that may be values."""
    accepted: list[str] = []
    refused: list[str] = []
    detail = ""
    for kind, values in SPELLINGS.items():
        for value in values:
            answer = account.attempt(_start, account, **{kind: value})
            if isinstance(answer, Refusal):
                refused.append(value)
                detail = answer.detail
            else:
                accepted.append(value)
    text = f"accepts {_quoted(accepted)}; refuses {_quoted(refused)}"
    yield {"spellings": Observation(text, detail)}


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(repr(value) for value in values) or "none"


def listed(account: Account) -> Observations:
    """List the parameters of executions."""

    def start_and_list(values: Mapping[str, str], *names: str) -> str:
        """Start an execution with values, and return the values that are listed."""
        arn = account.attempt(_start, account, **values)
        if isinstance(arn, Refusal):
            raise NotCheckedError(
                f"a start with {', '.join(values.values())} is {arn.value}"
            )
        account.wait_for_end(arn)
        entries = account.entries(
            "ListPipelineParametersForExecution",
            "PipelineParameters",
            PipelineExecutionArn=arn,
        )
        listed_values = {entry["Name"]: entry["Value"] for entry in entries}
        return ", ".join(listed_values.get(name, "none") for name in names)

    default: Observed = account.observe(start_and_list, {}, "String")
    yield {"as-sent": account.observe(start_and_list, _SENT, *_SENT)}
    if isinstance(default, str):
        default = one_of(default == _DEFAULTS["String"], "listed", "not listed")
    yield {"defaults": default}


def values(account: Account) -> Observations:
    """Start executions with values that may be refused."""
    answer_to_start = partial(account.answer_to, _start, account)
    text = definitions.parameter("Text", "String")
    required = account.create("required", definitions.succeeding(text))
    # Both must be accepted. Each of the following starts differs from one of them in
    # one value only.
    _start(account, Integer="8", String="b", Choice="b")
    account.start(required, PipelineParameters=[{"Name": "Text", "Value": "a"}])

    naming = ("with its name in quotes", "without its name in quotes")
    unknown = answer_to_start(Unknown="a")
    yield {"unknown": worded(unknown, "'Unknown'", *naming)}
    wrong_type = answer_to_start(Integer="many")
    yield {"wrong-type": worded(wrong_type, "'Integer'", *naming)}
    yield {"empty": answer_to_start(String="")}
    yield {"enum": answer_to_start(Choice="c")}
    yield {"missing": account.answer_to(account.start, required)}
