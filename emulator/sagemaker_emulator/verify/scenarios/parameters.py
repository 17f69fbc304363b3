"""
Parameters of a start: which texts are values, and the refusals that explanations read.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Refusal,
    Seen,
    worded,
)

# By declared type: the texts that are tried.
SPELLINGS: Final = {
    "Integer": ("8", "-3", "+3", "8.0", "8.5", "1_000", " 8 ", "True"),
    "Float": ("0.5", "1e-3", "2", ".5", "high", "nan", "inf"),
    "Boolean": ("True", "true", "False", "FALSE", "1", "yes"),
}
_DEFAULTS: Final = {"Integer": 1, "Float": 0.5, "Boolean": True, "String": "a"}
_SENT: Final = {"Integer": "+3", "Float": "1e-3", "Boolean": "True"}


def _typed(account: Account) -> str:
    """Create a pipeline with a parameter of each type, of the same name."""
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
    for kind in SPELLINGS:
        yield {kind.lower(): _spellings(account, kind)}


def _spellings(account: Account, kind: str) -> Seen:
    answers = {
        value: account.attempt(_start, account, **{kind: value})
        for value in SPELLINGS[kind]
    }
    refused = {
        value: answer.detail
        for value, answer in answers.items()
        if isinstance(answer, Refusal)
    }
    accepted = ", ".join(repr(value) for value in answers if value not in refused)
    text = (
        f"accepts {accepted or 'none'}; refuses"
        f" {', '.join(map(repr, refused)) or 'none'}"
    )
    return Seen(text, next(iter(refused.values()), ""))


def listed(account: Account) -> Observations:
    """List the parameters of executions."""

    def listed_of(values: Mapping[str, str], *names: str) -> str:
        arn = account.attempt(_start, account, **values)
        if isinstance(arn, Refusal):
            raise NotCheckedError(
                f"a start with {', '.join(values.values())} is {arn.value}"
            )
        account.end(arn)
        operation, member = "ListPipelineParametersForExecution", "PipelineParameters"
        entries = account.entries(operation, member, PipelineExecutionArn=arn)
        found = {entry["Name"]: entry["Value"] for entry in entries}
        return ", ".join(found.get(name, "none") for name in names)

    default = account.observe(listed_of, {}, "String")
    yield {"as-sent": account.observe(listed_of, _SENT, *_SENT)}
    is_listed = "listed" if default == _DEFAULTS["String"] else "not listed"
    yield {"defaults": is_listed if isinstance(default, str) else default}


def values(account: Account) -> Observations:
    """Start executions with values that may be refused."""
    told = partial(account.told, _start, account)
    naming = "with its name in quotes", "without its name in quotes"
    required = account.create(
        "required", definitions.succeeding(definitions.parameter("Text", "String"))
    )
    # What differs from these in one value only.
    _start(account, Integer="8", String="b", Choice="b")
    account.start(required, PipelineParameters=[{"Name": "Text", "Value": "a"}])
    yield {"unknown": worded(told(Unknown="a"), "'Unknown'", *naming)}
    yield {"wrong-type": worded(told(Integer="many"), "'Integer'", *naming)}
    yield {"empty": told(String="")}
    yield {"enum": told(Choice="c")}
    yield {"case": told(STRING="a")}
    yield {"missing": account.told(account.start, required)}
