"""
Compares the jobs of a catalogue with the pipelines that exist. Pure.

It compares what a start depends on: which pipelines exist, which parameters they
declare, and the names of their roles. It notes changes of the steps, and of the
definition. It compares neither descriptions nor ARNs and regions, so that one catalogue
can be compared with several accounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from polysync_airflow.execution.pipelines import (
    DeclaredParameter,
    Job,
    JobStep,
    typed_value,
)
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.jobs.catalogue import Catalogue, CatalogueJob, Scope

Value = str | int | float | bool | list[str] | None
# The text of each kind of difference, in the order in which the differences of a job
# are listed.
_TEXTS: Final = {
    "broken_entry": "the entry of the catalogue is not valid: {before}",
    "pipeline_removed": "the pipeline does not exist any more",
    "unreadable": "the parameters cannot be read any more: {after}",
    "required_parameter_added": "a new parameter without a default: {after}",
    "parameter_removed": "the parameter does not exist any more; it was {before}",
    "type_changed": "the type was {before}, and is {after}",
    "default_removed": "the default was {before}; a value is required now",
    "enum_changed": "the allowed values were {before}, and are {after}",
    "pipeline_added": "the catalogue does not have this pipeline",
    "parameter_added": "a new parameter: {after}",
    "default_changed": "the default was {before}, and is {after}",
    "role_changed": "the role was {before}, and is {after}",
    "step_removed": "the step does not exist any more; its type was {before}",
    "step_added": "a new step; its type is {after}",
    "step_type_changed": "the type was {before}, and is {after}",
    "step_needs_changed": "it needed {before}, and needs {after}",
    "step_branch_changed": "the branch was {before}, and is {after}",
    "definition_changed": "the definition has changed, but not the parameters",
}
KINDS: Final = tuple(_TEXTS)
_to_json: Final = json.JSONEncoder(ensure_ascii=False).encode


class Drift(NamedTuple):
    """
    A difference between a catalogue and the pipelines that exist.

    :param kind: one of ``KINDS``.
    :param parameter: name of the parameter; None if the difference is not about one.
    :param before: what the catalogue has: a type, default value, enum values, digest,
        problem or branch, or names of steps.
    :param after: what AWS has.
    :param breaking: whether a start that was right for the catalogue can fail now.
    :param step: name of the step; None if the difference is not about one.
    """

    job: str
    kind: str
    parameter: str | None = None
    before: Value = None
    after: Value = None
    breaking: bool = False
    step: str | None = None

    @property
    def is_note(self) -> bool:
        """
        Whether it is a note only: the definition differs, but not in what a start
        depends on.
        """
        return self.kind == "definition_changed" or self.step is not None

    @property
    def part(self) -> str:
        """The parameter or the step that it is about; empty if it is about the job."""
        return self.parameter or self.step or ""


def compare(catalogue: Catalogue, jobs: Sequence[Job], scope: Scope) -> list[Drift]:
    """
    Return the differences between a catalogue and the pipelines that exist.

    They are sorted by job. In a job, those that break a start come first.

    :param scope: which jobs were imported. Other jobs of the catalogue are not
        compared.
    """
    before = {job.name: job for job in catalogue.jobs if job.name in scope}
    after = {job.name: job for job in jobs}
    broken = [entry for entry in catalogue.broken if entry.name in scope]
    found = [
        Drift(entry.name, "broken_entry", before=entry.problem, breaking=True)
        for entry in broken
    ]
    known = before.keys() | {entry.name for entry in broken}
    found += [
        Drift(name, "pipeline_removed", breaking=True)
        for name in before.keys() - after.keys()
    ]
    found += [Drift(name, "pipeline_added") for name in after.keys() - known]
    for name in before.keys() & after.keys():
        found += _compare_job(before[name], after[name])
    return sorted(found, key=_order)


def count_drift(found: Sequence[Drift], *, strict: bool = False) -> int:
    """Return how many differences count as drift: with ``strict``, notes as well."""
    return sum(strict or not drift.is_note for drift in found)


def describe_drift(drift: Drift) -> str:
    """Return a difference as one line of text."""
    part = (
        f", {'step' if drift.step else 'parameter'} {drift.part}" if drift.part else ""
    )
    breaking = " (breaking)" if drift.breaking else ""
    return clean_line(f"{drift.job}{part}: {change_text(drift)}{breaking}", 1000)


def change_text(drift: Drift) -> str:
    """
    Return what has changed, without the names of the job and of the parameter or step.
    """
    return _TEXTS[drift.kind].format(
        before=shown(drift.before), after=shown(drift.after)
    )


def drift_as_json(
    found: Sequence[Drift], *, compared: int, strict: bool
) -> dict[str, Any]:
    """
    Return differences as plain data. Later releases may add keys.

    :param compared: how many pipelines were compared.
    """
    return {
        "drift": count_drift(found, strict=strict) > 0,
        "compared": compared,
        "changes": [drift._asdict() for drift in found],
    }


def shown(value: Value) -> str:
    """Return a value as a text for people; a long one is cut."""
    text = value if isinstance(value, str) else _to_json(value)
    return clean_line("nothing" if value is None else text, 120)


def _order(drift: Drift) -> tuple[Any, ...]:
    return (
        drift.job,
        not drift.breaking,
        KINDS.index(drift.kind),
        drift.part,
        shown(drift.before),
    )


def _compare_job(before: CatalogueJob, after: Job) -> list[Drift]:
    found = [*_compare_parameters(before, after), *_compare_steps(before, after)]
    digests = (before.definition_digest, after.definition_digest)
    if not found and None not in digests and digests[0] != digests[1]:
        found = [Drift(before.name, "definition_changed", None, *digests)]
    if before.role_arn is not None and _role_name(before.role_arn) != _role_name(
        after.role_arn
    ):
        found.append(
            Drift(before.name, "role_changed", None, before.role_arn, after.role_arn)
        )
    return found


def _role_name(arn: str | None) -> str | None:
    # Without the account, which differs where one catalogue is compared with several.
    return arn and arn.rpartition(":")[2]


def _compare_parameters(before: CatalogueJob, after: Job) -> Iterator[Drift]:
    job = before.name
    if after.parameters_error is not None:
        # A catalogue that says so too has been reviewed with it.
        if before.parameters_error is None:
            yield Drift(job, "unreadable", after=after.parameters_error, breaking=True)
        return
    old: dict[str, DeclaredParameter] = {each.name: each for each in before.parameters}
    new = {each.name: each for each in after.parameters}
    for name in old.keys() - new.keys():
        yield Drift(
            job, "parameter_removed", name, _declaration(old[name]), breaking=True
        )
    for name in new.keys() - old.keys():
        required = new[name].default is None
        kind = "required_parameter_added" if required else "parameter_added"
        yield Drift(job, kind, name, None, _declaration(new[name]), breaking=required)
    for name in old.keys() & new.keys():
        yield from _compare_parameter(job, old[name], new[name])


def _compare_steps(before: CatalogueJob, after: Job) -> Iterator[Drift]:
    # One of them cannot be read, or AWS has steps that a catalogue cannot have.
    if not before.steps or not after.steps:
        return
    job = before.name
    old, new = (
        {step.name: step for step in steps} for steps in (before.steps, after.steps)
    )
    for name in old.keys() - new.keys():
        yield Drift(job, "step_removed", before=old[name].type, step=name)
    for name in new.keys() - old.keys():
        yield Drift(job, "step_added", after=new[name].type, step=name)
    for name in old.keys() & new.keys():
        was, now = _step_facts(old[name]), _step_facts(new[name])
        changed = [kind for kind in was if was[kind] != now[kind]]
        yield from (
            Drift(job, kind, None, was[kind], now[kind], step=name) for kind in changed
        )


def _step_facts(step: JobStep) -> dict[str, Value]:
    return {
        "step_type_changed": step.type,
        "step_needs_changed": list(step.needs) or None,
        "step_branch_changed": step.condition and f"{step.condition}: {step.branch}",
    }


def _declaration(parameter: DeclaredParameter) -> str:
    default = "" if parameter.default is None else f" = {shown(parameter.default)}"
    return f"{parameter.type}{default}"


def _compare_parameter(
    job: str, old: DeclaredParameter, new: DeclaredParameter
) -> Iterator[Drift]:
    name, has_same_type = new.name, old.type == new.type
    if not has_same_type:
        yield Drift(job, "type_changed", name, old.type, new.type, breaking=True)
    if new.default is None and old.default is not None:
        yield Drift(job, "default_removed", name, old.default, breaking=True)
    # The values 5 and "5" are the same one, of the two types.
    elif (
        _comparable(old) != _comparable(new)
        if has_same_type
        else str(old.default) != str(new.default)
    ):
        yield Drift(job, "default_changed", name, old.default, new.default)
    before, after = set(old.enum_values or ()), set(new.enum_values or ())
    if before != after:
        # More values, or no limit any more, break nothing.
        breaking = bool(after) and (not before or bool(before - after))
        yield Drift(
            job,
            "enum_changed",
            name,
            old.enum_values,
            new.enum_values,
            breaking=breaking,
        )


def _comparable(parameter: DeclaredParameter) -> tuple[bool, Any]:
    # As AWS reads it: the default 6 of a Float is the same as 6.0. For Python, True is
    # the same as 1.
    value: Any = parameter.default
    with suppress(ValueError):
        value = typed_value(parameter, value)
    return isinstance(value, bool), value
