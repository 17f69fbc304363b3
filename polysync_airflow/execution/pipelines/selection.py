"""
Which steps a selective execution runs, compared with the pipeline's definition.

The rules are AWS's: the steps exist; all steps on a path between two selected ones are selected; and if a
selected step depends on others, their results come from a source execution. Whether a step in the branch of a
condition needs the condition is left to AWS.
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from polysync_airflow.execution.pipelines.definition import DeclaredStep
from polysync_airflow.execution.texts import clean_line, nearest_name

# How many names a message lists.
MAX_NAMES: Final = 10
# The statuses of an execution that can be a source; those of a step that another execution can reuse.
SOURCE_STATUSES: Final = ("Succeeded", "Failed")
REUSABLE_STATUS: Final = "Succeeded"


def selection_problems(
    selected: Sequence[str], declared: Sequence[DeclaredStep], *, has_source: bool
) -> list[str]:
    """
    Return what is wrong with the selected steps: one line for each problem; none if they fit the definition.

    :param selected: the names of the selected steps.
    :param declared: the steps of the definition.
    :param has_source: whether the start names a source execution.
    """
    by_name = {step.name: step for step in declared}
    unknown = [name for name in selected if name not in by_name]
    if unknown:
        return [_unknown(name, by_name) for name in unknown]
    above = {name: _above(name, by_name) for name in by_name}
    problems = list(_gaps(selected, above))
    others = reused_steps(selected, declared)
    if others and not has_source and not problems:
        problems.append(
            f"source_execution: is missing, and the selected steps depend on {_listed(others)}; add the "
            "ARN of an execution in which they have succeeded, or 'latest', or select them, too"
        )
    return problems


def reused_steps(selected: Sequence[str], declared: Sequence[DeclaredStep]) -> list[str]:
    """Return the names of the steps whose results the selected ones take from the source."""
    by_name = {step.name: step for step in declared}
    needed = {name for each in selected for name in _above(each, by_name)} - set(selected)
    return [name for name in by_name if name in needed]


def mark_selection(declared: Iterable[DeclaredStep], selected: Sequence[str] | None) -> list[DeclaredStep]:
    """Return the steps of a definition, marked if the execution has not selected them."""
    return [
        step._replace(not_selected=bool(selected) and step.name not in (selected or ())) for step in declared
    ]


def _above(name: str, by_name: Mapping[str, DeclaredStep]) -> set[str]:
    """Return all steps on which a step depends, directly or not."""
    above: set[str] = set()
    pending = [name]
    while pending:
        step = by_name.get(pending.pop())
        new = (step.needs if step else set()) - above
        above |= new
        pending += new
    return above - {name}


def _gaps(selected: Sequence[str], above: Mapping[str, set[str]]) -> Iterator[str]:
    chosen = set(selected)
    between = {
        other: name
        for name in selected
        for other in sorted(above[name] - chosen)
        if above.get(other, set()) & chosen
    }
    for other, name in between.items():
        first = min(above[other] & chosen)
        yield f"{clean_line(other)}: is between the selected steps {first} and {name}; select it, too"


def _unknown(name: str, by_name: Mapping[str, DeclaredStep]) -> str:
    nearest = nearest_name(name, by_name)
    cure = f"did you mean {nearest}?" if nearest else f"its steps are {_listed(by_name)}"
    return f"{clean_line(name)}: is not a step of the pipeline; {cure}"


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    more = f" and {len(all_names) - MAX_NAMES} more" if len(all_names) > MAX_NAMES else ""
    return ", ".join(clean_line(name) for name in islice(all_names, MAX_NAMES)) + more
