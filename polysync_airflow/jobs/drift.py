"""
Compares the jobs of a catalogue with the pipelines that exist. Pure.

It compares what a start depends on: which pipelines exist, which parameters they
declare, and the names of their roles. Changes of the steps and of the definition are
notes. Descriptions, ARNs and regions are not compared, so that one catalogue can be
compared with several accounts.
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
        """Whether the definition differs, but not in what a start depends on."""
        return self.kind == "definition_changed" or self.step is not None

    @property
    def part(self) -> str:
        """The name of the parameter or step that differs; empty if the job does."""
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
    drifts = [
        Drift(entry.name, "broken_entry", before=entry.problem, breaking=True)
        for entry in broken
    ]
    drifts += [
        Drift(name, "pipeline_removed", breaking=True)
        for name in before.keys() - after.keys()
    ]
    in_file = before.keys() | {entry.name for entry in broken}
    drifts += [Drift(name, "pipeline_added") for name in after.keys() - in_file]
    for name in before.keys() & after.keys():
        drifts += _compare_job(before[name], after[name])
    return sorted(drifts, key=_order)


def count_drift(drifts: Sequence[Drift], *, strict: bool = False) -> int:
    """
    Return how many differences count as drift.

    :param strict: whether notes count as well.
    """
    if strict:
        return len(drifts)
    return sum(not drift.is_note for drift in drifts)


def describe_drift(drift: Drift) -> str:
    """Return a difference as one line of text."""
    subject = drift.job
    if drift.parameter:
        subject += f", parameter {drift.parameter}"
    elif drift.step:
        subject += f", step {drift.step}"
    breaking = " (breaking)" if drift.breaking else ""
    return clean_line(f"{subject}: {change_text(drift)}{breaking}", 1000)


def change_text(drift: Drift) -> str:
    """
    Return what has changed, without the names of the job and of the parameter or step.
    """
    return _TEXTS[drift.kind].format(
        before=shown(drift.before), after=shown(drift.after)
    )


def drift_as_json(
    drifts: Sequence[Drift], *, compared: int, strict: bool
) -> dict[str, Any]:
    """
    Return differences as plain data. Later releases may add keys.

    :param compared: how many pipelines were compared.
    :param strict: whether notes count as drift.
    """
    return {
        "drift": count_drift(drifts, strict=strict) > 0,
        "compared": compared,
        "changes": [drift._asdict() for drift in drifts],
    }


def shown(value: Value) -> str:
    """Return a value as a text for people, of at most 120 characters."""
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else _to_json(value)
    return clean_line(text, 120)


def _order(drift: Drift) -> tuple[Any, ...]:
    return (
        drift.job,
        not drift.breaking,
        KINDS.index(drift.kind),
        drift.part,
        shown(drift.before),
    )


def _compare_job(before: CatalogueJob, after: Job) -> list[Drift]:
    drifts = [*_compare_parameters(before, after), *_compare_steps(before, after)]
    old_digest = before.definition_digest
    new_digest = after.definition_digest
    if not drifts and old_digest and new_digest and old_digest != new_digest:
        drifts.append(
            Drift(before.name, "definition_changed", None, old_digest, new_digest)
        )
    if before.role_arn and _role_name(before.role_arn) != _role_name(after.role_arn):
        drifts.append(
            Drift(before.name, "role_changed", None, before.role_arn, after.role_arn)
        )
    return drifts


def _role_name(arn: str | None) -> str | None:
    if arn is None:
        return None
    # The account differs where one catalogue is compared with several.
    return arn.rpartition(":")[2]


def _compare_parameters(before: CatalogueJob, after: Job) -> Iterator[Drift]:
    job = before.name
    if after.parameters_error is not None:
        # A catalogue with an error as well has been reviewed with it.
        if before.parameters_error is None:
            yield Drift(job, "unreadable", after=after.parameters_error, breaking=True)
        return
    old: dict[str, DeclaredParameter] = {
        parameter.name: parameter for parameter in before.parameters
    }
    new = {parameter.name: parameter for parameter in after.parameters}
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
    # A definition that cannot be read has no steps, nor has one with steps that a
    # catalogue cannot have.
    if not before.steps or not after.steps:
        return
    job = before.name
    old = {step.name: step for step in before.steps}
    new = {step.name: step for step in after.steps}
    for name in old.keys() - new.keys():
        yield Drift(job, "step_removed", before=old[name].type, step=name)
    for name in new.keys() - old.keys():
        yield Drift(job, "step_added", after=new[name].type, step=name)
    for name in old.keys() & new.keys():
        old_facts = _step_facts(old[name])
        new_facts = _step_facts(new[name])
        for kind, fact in old_facts.items():
            if fact != new_facts[kind]:
                yield Drift(job, kind, None, fact, new_facts[kind], step=name)


def _step_facts(step: JobStep) -> dict[str, Value]:
    """Return what is compared of a step, by the kind of the difference."""
    branch = None
    if step.condition:
        branch = f"{step.condition}: {step.branch}"
    return {
        "step_type_changed": step.type,
        "step_needs_changed": list(step.needs) or None,
        "step_branch_changed": branch,
    }


def _declaration(parameter: DeclaredParameter) -> str:
    if parameter.default is None:
        return parameter.type
    return f"{parameter.type} = {shown(parameter.default)}"


def _compare_parameter(
    job: str, old: DeclaredParameter, new: DeclaredParameter
) -> Iterator[Drift]:
    name = new.name
    if old.type != new.type:
        yield Drift(job, "type_changed", name, old.type, new.type, breaking=True)
    if new.default is None and old.default is not None:
        yield Drift(job, "default_removed", name, old.default, breaking=True)
    elif _is_other_default(old, new):
        yield Drift(job, "default_changed", name, old.default, new.default)
    before = set(old.enum_values or ())
    after = set(new.enum_values or ())
    if before != after:
        # More values, or no limit any more, break nothing.
        breaking = bool(after) and not (before and before.issubset(after))
        yield Drift(
            job,
            "enum_changed",
            name,
            old.enum_values,
            new.enum_values,
            breaking=breaking,
        )


def _is_other_default(old: DeclaredParameter, new: DeclaredParameter) -> bool:
    if old.type != new.type:
        # The values 5 and "5" are the same one, of the two types.
        return str(old.default) != str(new.default)
    return _comparable(old) != _comparable(new)


def _comparable(parameter: DeclaredParameter) -> tuple[bool, Any]:
    # As AWS reads it: the default 6 of a Float is the same as 6.0. For Python, True is
    # the same as 1.
    value: Any = parameter.default
    with suppress(ValueError):
        value = typed_value(parameter, value)
    return isinstance(value, bool), value
