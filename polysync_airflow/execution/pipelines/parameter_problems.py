"""Compares the parameters of a start with those that the pipeline's definition declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from polysync_airflow.execution.pipelines.models import DeclaredParameter
from polysync_airflow.execution.pipelines.parameter_types import typed_value
from polysync_airflow.execution.texts import MAX_PROBLEMS, MAX_VALUE_LENGTH, clean_line, nearest_name, shorten

# For how many unknown names a similar one is searched, and among how many: each search compares with all.
MAX_SUGGESTIONS: Final = 5
MAX_COMPARED: Final = 1000
# How many names a message lists when none is similar.
MAX_NAMES: Final = 5


def parameter_problems(sent: Mapping[str, str], declared: Sequence[DeclaredParameter]) -> list[str]:
    """
    Return what keeps a pipeline from being started with these parameters: one line for each problem.

    Each line names the parameter, its value and the cure. The unknown parameters come first, since a
    misspelled name is also the reason why the right one is missing.

    :param sent: the values by name, as the request has them.
    :return: at most ``MAX_PROBLEMS`` lines, and one that says how many problems are not listed; an empty list
        if the parameters fit.
    """
    by_name = {parameter.name: parameter for parameter in declared}
    unknown = [name for name in sent if name not in by_name]
    missing = [each for each in by_name.values() if each.default is None and each.name not in sent]
    invalid = {
        name: problem
        for name, value in sent.items()
        if name in by_name and (problem := _type_problem(by_name[name], value))
    }
    lines = (
        *(_unknown(name, sent[name], cure) for name, cure in _cures(unknown, by_name)),
        *(_missing(each) for each in missing[:MAX_PROBLEMS]),
        *(f"{clean_line(name)} = {shorten(sent[name])}: {problem}" for name, problem in invalid.items()),
    )
    total = len(unknown) + len(missing) + len(invalid)
    problems = list(islice(lines, MAX_PROBLEMS))
    return [*problems, f"and {total - len(problems)} more"] if total > len(problems) else problems


def _cures(unknown: Sequence[str], declared: Mapping[str, DeclaredParameter]) -> Iterator[tuple[str, str]]:
    for position, name in enumerate(unknown[:MAX_PROBLEMS]):
        names = islice(declared, MAX_COMPARED if position < MAX_SUGGESTIONS else 0)
        nearest = nearest_name(name, names)
        yield name, f"did you mean {clean_line(nearest)}?" if nearest else _leave_out(declared)


def _leave_out(declared: Mapping[str, DeclaredParameter]) -> str:
    if not declared:
        return "leave it out, the pipeline declares none"
    names = ", ".join(clean_line(name) for name in islice(declared, MAX_NAMES))
    more = f" and {len(declared) - MAX_NAMES} more" if len(declared) > MAX_NAMES else ""
    return f"leave it out, or use one of {names}{more}"


def _unknown(name: str, value: str, cure: str) -> str:
    return f"{clean_line(name)} = {shorten(value)}: not declared; {cure}"


def _missing(parameter: DeclaredParameter) -> str:
    kind: str = parameter.type
    if parameter.enum_values:
        kind += f", one of {', '.join(parameter.enum_values[:MAX_NAMES])}"
    return f"{clean_line(parameter.name)}: has no default; add a value ({clean_line(kind)})"


def _type_problem(parameter: DeclaredParameter, value: str) -> str | None:
    if not 1 <= len(value) <= MAX_VALUE_LENGTH:
        return f"must have 1 to {MAX_VALUE_LENGTH:,} characters"
    try:
        typed_value(parameter, value)
    except ValueError as error:
        return clean_line(f"{error} (declared as {parameter.type})")
    return None
