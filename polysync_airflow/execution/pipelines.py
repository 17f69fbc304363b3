"""
Pipelines: AWS's descriptions of them, and the parameters and steps that their
definitions declare.

Any user of the account may have written a definition.

AWS gets every value as a text, and compares it with the declared type. It does not
document which texts it accepts as numbers. This module refuses those that only Python
reads as numbers (``1_000``, digits of other scripts, spaces around the number). It
accepts booleans in upper and lower case, because AWS's SDK sends ``True``.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html

AWS has three rules for a selective execution. The selected steps exist. All steps on a
path between two selected steps are selected. If a selected step depends on others,
their results come from a source execution. Whether a step in the branch of a condition
needs the condition is left to AWS.
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from math import isfinite
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    AliasPath,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json


class PipelineSummary(models.AwsModel):
    """One entry of ListPipelines."""

    name: models.PipelineName = Field(validation_alias="PipelineName")
    arn: texts.ArnText = Field("", validation_alias="PipelineArn")


class PipelineDescription(models.AwsModel):
    """
    The response of DescribePipeline.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html
    """

    name: models.PipelineName = Field(validation_alias="PipelineName")
    arn: texts.ArnText = Field(validation_alias="PipelineArn")
    role_arn: texts.ArnText | None = Field(None, validation_alias="RoleArn")
    display_name: texts.NameText | None = Field(
        None, validation_alias="PipelineDisplayName"
    )
    description: texts.DescriptionText | None = Field(
        None, validation_alias="PipelineDescription"
    )
    created_at: models.ResponseTime = Field(None, validation_alias="CreationTime")
    modified_at: models.ResponseTime = Field(None, validation_alias="LastModifiedTime")
    last_run_at: models.ResponseTime = Field(None, validation_alias="LastRunTime")
    max_parallel_steps: texts.Count = Field(
        None,
        validation_alias=AliasPath(
            "ParallelismConfiguration", "MaxParallelExecutionSteps"
        ),
    )
    definition: str | None = Field(None, validation_alias="PipelineDefinition")


def _clean_default(value: Any) -> Any:
    if isinstance(value, str):
        return texts.clean_value(value, texts.MAX_VALUE_LENGTH)
    # JSON in Python can have NaN and Infinity, which no database stores.
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("must be a finite number")
    default = texts.storable_number(value)
    if isinstance(default, str) and len(default) > texts.MAX_VALUE_LENGTH:
        raise ValueError(f"must have at most {texts.MAX_VALUE_LENGTH:,} digits")
    return default


class DeclaredParameter(models.FrozenModel):
    """
    A parameter that a pipeline's definition declares.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html
    """

    name: Annotated[texts.NameText, texts.NotReserved] = Field(validation_alias="Name")
    # AWS's schema of definitions: a parameter without a type is a String.
    type: Literal["String", "Integer", "Float", "Boolean"] = Field(
        "String", validation_alias="Type"
    )
    default: Annotated[
        str | int | float | bool | None, BeforeValidator(_clean_default)
    ] = Field(None, validation_alias="DefaultValue")
    enum_values: list[texts.ValueText] | None = Field(
        None, validation_alias="EnumValues", max_length=1000
    )
    description: Annotated[texts.DescriptionText | None, texts.LENIENT] = Field(
        None, validation_alias="Description"
    )


MAX_STEPS: Final = models.MAX_STEPS


class JobStep(models.StrictModel):
    """
    A step of an imported job, with what a task for this step depends on.

    ``DeclaredStep`` describes its members.

    :param needs: sorted; only steps that the job has.
    """

    name: models.StepName
    type: models.StepName | None = None
    needs: tuple[str, ...] = Field((), max_length=MAX_STEPS)
    condition: str | None = None
    branch: Literal["True", "False"] | None = None


def _checked_steps(steps: Sequence[JobStep]) -> list[JobStep]:
    names = Counter(step.name for step in steps)
    if len(names) < len(steps):
        name, _ = names.most_common(1)[0]
        raise ValueError(f"{name} is there twice")

    for step in steps:
        if not step.condition and not step.branch:
            continue
        if step.condition not in names or not step.branch:
            raise ValueError(
                f"{step.name} must have a branch and a condition that is a step, or"
                " neither"
            )

    checked = []
    depends_on = {}
    for step in steps:
        needs = tuple(sorted(names.keys() & step.needs))
        checked.append(step.model_copy(update={"needs": needs}))
        depends_on[step.name] = (*needs, step.condition)
    try:
        TopologicalSorter(depends_on).prepare()
    except CycleError as error:
        raise ValueError(
            f"they depend on each other in a circle: {', '.join(error.args[1])}"
        ) from None
    return checked


JobSteps = Annotated[
    list[JobStep], Field(max_length=MAX_STEPS), AfterValidator(_checked_steps)
]


class _WithSteps(models.FrozenModel):
    steps: JobSteps


class Job(models.FrozenModel):
    """
    An imported pipeline, as ``PolysyncListImportOperator`` returns it. In JSON, times
    are ISO 8601 in UTC.

    :param definition_digest: ``sha256:<hex>`` of the definition; None if it is not
        JSON.
    :param steps: for the catalogue; none if they cannot be read. JSON leaves them out:
        no start needs them, and the XCom with the jobs of a whole account would be a
        third larger.
    """

    name: str
    arn: str
    region: str
    role_arn: str | None
    display_name: str | None
    description: str | None
    created_at: models.UtcTime | None
    modified_at: models.UtcTime | None
    last_run_at: models.UtcTime | None
    max_parallel_steps: texts.Count
    definition_digest: str | None
    parameters: list[DeclaredParameter]
    parameters_error: str | None
    steps: JobSteps = Field(default_factory=list, exclude=True)


Value = str | int | float | bool
_BOOLEANS: Final = {"true": True, "false": False}
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def typed_value(parameter: DeclaredParameter, value: Any) -> Value:
    """
    Return a value as the type that the parameter declares.

    :param value: a value of that type, or its text as AWS accepts it.
    :raises ValueError: the parameter does not accept the value. The error says what it
        accepts.
    """
    typed = _READERS[parameter.type](value)
    if typed is None:
        raise ValueError(f"must be {_WANTED[parameter.type]}")
    if parameter.enum_values and typed not in allowed_values(parameter):
        raise ValueError(f"must be one of {', '.join(map(str, parameter.enum_values))}")
    return typed


def allowed_values(parameter: DeclaredParameter) -> list[Value]:
    """
    Return the values to which the definition limits the parameter, in its order; an
    empty list for no limit.
    """
    read = _READERS[parameter.type]
    values = [read(value) for value in parameter.enum_values or ()]
    return [value for value in values if value is not None]


def _text(value: Any) -> str | None:
    if not isinstance(value, (str, int, float)):
        return None
    return str(value)


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    # Python refuses to read more than 4,300 digits. AWS accepts 1,024 characters.
    if not isinstance(value, str) or len(value) > texts.MAX_VALUE_LENGTH:
        return None
    if _INTEGER.fullmatch(value) is None:
        return None
    return int(value)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        if _FLOAT.fullmatch(value) is None:
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    return _BOOLEANS.get(value.lower())


_READERS = {"String": _text, "Integer": _integer, "Float": _number, "Boolean": _boolean}
_WANTED = {
    "String": "a text",
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
}


# For how many unknown names a message suggests a similar one, and with how many names
# it compares each.
MAX_SUGGESTIONS: Final = 5
MAX_COMPARED: Final = 1000
# How many names a message lists when none is similar.
MAX_NAMES: Final = 5


def parameter_problems(
    sent: Mapping[str, str], declared: Sequence[DeclaredParameter]
) -> list[str]:
    """
    Return why a pipeline cannot be started with some parameters: one line for each
    problem.

    Each line names the parameter, its value and the cure. The unknown parameters come
    first, since a misspelled name is also the reason why the right one is missing.

    :param sent: the values by name, as the request has them.
    :return: at most ``MAX_PROBLEMS`` lines, and one that says how many problems are not
        listed; an empty list if the parameters fit.
    """
    by_name = {parameter.name: parameter for parameter in declared}
    lines = []
    unknown = [name for name in sent if name not in by_name]
    for position, name in enumerate(unknown):
        nearest = None
        if position < MAX_SUGGESTIONS:
            nearest = texts.nearest_name(name, islice(by_name, MAX_COMPARED))
        if nearest:
            cure = f"did you mean {texts.clean_line(nearest)}?"
        elif by_name:
            cure = f"leave it out, or use one of {_listed(by_name, MAX_NAMES)}"
        else:
            cure = "leave it out, the pipeline declares none"
        lines.append(_problem_line(name, sent[name], f"not declared; {cure}"))

    for parameter in by_name.values():
        if parameter.default is None and parameter.name not in sent:
            lines.append(_missing(parameter))

    for name, value in sent.items():
        problem = _type_problem(by_name[name], value) if name in by_name else None
        if problem:
            lines.append(_problem_line(name, value, problem))
    return texts.first_problems(lines)


def _problem_line(name: str, value: str, problem: str) -> str:
    return f"{texts.clean_line(name)} = {texts.shorten(value)}: {problem}"


def _missing(parameter: DeclaredParameter) -> str:
    kind: str = parameter.type
    if parameter.enum_values:
        kind += f", one of {', '.join(parameter.enum_values[:MAX_NAMES])}"
    return (
        f"{texts.clean_line(parameter.name)}: has no default; add a value"
        f" ({texts.clean_line(kind)})"
    )


def _type_problem(parameter: DeclaredParameter, value: str) -> str | None:
    if not 1 <= len(value) <= texts.MAX_VALUE_LENGTH:
        return f"must have 1 to {texts.MAX_VALUE_LENGTH:,} characters"
    try:
        typed_value(parameter, value)
    except ValueError as error:
        return texts.clean_line(f"{error} (declared as {parameter.type})")
    return None


# Property files of a step.
MAX_PROPERTY_FILES: Final = 50
# A ForEach step runs the step Score of its body as Score-0 for the first item.
_FIRST: Final = "-0"
_INDEX: Final = re.compile(r"-\d+$")
# The members of a Condition step with its branches, and the outcome for each.
_BRANCHES: Final = {"IfSteps": "True", "ElseSteps": "False"}
_STEP_REFERENCE: Final = re.compile(r"^Steps\.([A-Za-z0-9\-_]+)")
_DECLARED_PARAMETERS = TypeAdapter(list[DeclaredParameter])


def declared_parameters(definition: str | None) -> list[DeclaredParameter]:
    """
    Return the parameters that a pipeline definition declares.

    :param definition: the definition, as JSON text.
    :raises ParametersError: the text is not a definition with valid ``Parameters``.
    """
    try:
        parsed = read_json(definition or "", "the definition")
    except UnreadableJsonError as error:
        raise ParametersError(texts.clean_text(str(error))) from None
    if not isinstance(parsed, dict):
        raise ParametersError(
            f"the definition is a JSON {type(parsed).__name__}, not an object"
        )
    try:
        return _DECLARED_PARAMETERS.validate_python(parsed.get("Parameters") or [])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ParametersError(
            texts.clean_text(f"the definition's Parameters.{path}: {first['msg']}")
        ) from None


def definition_digest(definition: str | None) -> str | None:
    """
    Return a digest of what a pipeline definition says.

    White space and the order of keys do not change the digest.

    :param definition: the definition, as JSON text.
    :return: ``sha256:<hex>``; None if the text is not JSON.
    """
    try:
        content = read_json(definition or "", "the definition")
    except UnreadableJsonError:
        return None
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


class PropertyFile(NamedTuple):
    """
    A JSON file that a processing step writes.

    :param output: the name of the job's output that has the file.
    :param path: where the file is in the output.
    """

    name: str
    output: str
    path: str


class DeclaredStep(NamedTuple):
    """
    A step that a pipeline's definition declares.

    :param type: its type, such as ``Training``; None if the definition has none.
    :param condition: the Condition step in whose branch the step is; None if it is in
        none.
    :param branch: the outcome with which this branch is taken: ``True`` or ``False``.
    :param needs: the steps that it names in ``DependsOn``, or whose properties it uses.
    :param not_selected: whether a selective execution has not selected it.
    :param body: the steps that a ForEach step runs for each item, named as AWS names
        them for the first item.
    """

    name: str
    type: str | None
    condition: str | None = None
    branch: str | None = None
    property_files: Sequence[PropertyFile] = ()
    needs: frozenset[str] = frozenset()
    not_selected: bool = False
    body: Sequence[DeclaredStep] = ()


def declared_steps(definition: str | None) -> list[DeclaredStep]:
    """
    Return the steps that a pipeline definition declares, in its order. The branches of
    a condition follow the condition.

    https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html

    :param definition: the definition, as JSON text.
    :return: at most ``MAX_STEPS``; none if the text is not a definition.
    """
    try:
        content = read_json(definition or "", "the definition")
    except UnreadableJsonError:
        return []
    steps: list[DeclaredStep] = []
    # Each with the Condition step in whose branch it is, and the outcome.
    pending: deque[tuple[dict[str, Any], str | None, str | None]] = deque(
        (entry, None, None) for entry in _steps_in(content, "Steps")
    )
    while pending and len(steps) < MAX_STEPS:
        entry, condition, branch = pending.popleft()
        arguments = entry.get("Arguments")
        step = _declared_step(entry)
        body = [_declared_step(inner) for inner in _steps_in(arguments, "ForEachBody")]
        needs = step.needs.union(*(inner.needs for inner in body))
        steps.append(
            step._replace(
                condition=condition,
                branch=branch,
                needs=needs - {inner.name for inner in body},
                body=[inner._replace(name=inner.name + _FIRST) for inner in body],
            )
        )
        branches = [
            (branch_entry, step.name, outcome)
            for member, outcome in _BRANCHES.items()
            for branch_entry in _steps_in(arguments, member)
        ]
        pending.extendleft(reversed(branches))
    return steps


def _steps_in(parent: Any, member: str) -> list[dict[str, Any]]:
    steps = parent.get(member) if isinstance(parent, dict) else None
    if not isinstance(steps, list):
        return []
    return [
        step
        for step in steps
        if isinstance(step, dict) and isinstance(step.get("Name"), str)
    ]


def _declared_step(entry: dict[str, Any]) -> DeclaredStep:
    name = texts.clean_line(entry["Name"], 256)
    kind = entry.get("Type")
    if isinstance(kind, str) and kind:
        kind = texts.clean_line(kind, 64)
    else:
        kind = None
    return DeclaredStep(
        name,
        kind,
        property_files=_property_files_in(entry.get("PropertyFiles")),
        needs=_needs_of(entry) - {name},
    )


def job_steps(declared: Iterable[DeclaredStep]) -> tuple[list[JobStep], str | None]:
    """
    Return the steps of an imported job, without those that loops run. The second value
    says why a job cannot have the steps; None if it can.
    """
    steps = [
        {member: getattr(step, member) for member in JobStep.model_fields}
        for step in declared
    ]
    try:
        return _WithSteps.model_validate({"steps": steps}).steps, None
    except ValidationError as error:
        return [], texts.describe_validation_error(error)


def all_steps(declared: Iterable[DeclaredStep]) -> list[DeclaredStep]:
    """
    Return the steps of a definition, and those that its loops run for the first item.
    """
    steps = []
    for step in declared:
        steps += [step, *step.body]
    return steps


def step_named(name: str, declared: Sequence[DeclaredStep]) -> DeclaredStep | None:
    """
    Return the step of a definition that AWS lists under a name.

    A ForEach step runs the steps of its body as ``<name>-<index>``. Class
    ``ForEachStep`` of AWS's package ``sagemaker-mlops`` says so.
    """
    steps = {step.name: step for step in declared}
    if name in steps:
        return steps[name]
    loop_steps = {inner.name: inner for step in declared for inner in step.body}
    return loop_steps.get(_INDEX.sub(_FIRST, name))


def _property_files_in(value: Any) -> list[PropertyFile]:
    if not isinstance(value, list):
        return []
    entries = [entry for entry in value if isinstance(entry, dict)]
    files = []
    for entry in entries[:MAX_PROPERTY_FILES]:
        file = PropertyFile(
            name=entry.get("PropertyFileName", ""),
            output=entry.get("OutputName", ""),
            path=entry.get("FilePath", ""),
        )
        if all(isinstance(text, str) and text for text in file):
            files.append(file)
    return files


def _needs_of(step: dict[str, Any]) -> frozenset[str]:
    """
    Return the names of the steps that a step depends on. The steps in its branches have
    their own.
    """
    names: set[str] = set()
    depends_on = step.get("DependsOn")
    if not isinstance(depends_on, list):
        depends_on = []
    for entry in depends_on:
        # An entry is a name, or an object with a trigger.
        name = entry.get("Step") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            names.add(name)

    pending: list[Any] = [step]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        if not isinstance(value, dict):
            continue
        reference = value.get("Get")
        if isinstance(reference, str):
            names.update(_STEP_REFERENCE.findall(reference))
        pending.extend(
            content for member, content in value.items() if member not in _BRANCHES
        )
    return frozenset(names)


# How many names a message lists.
MAX_STEP_NAMES: Final = 10
# The statuses of an execution that can be a source, and that of a step whose result
# another execution can reuse.
SOURCE_STATUSES: Final = ("Succeeded", "Failed")
REUSABLE_STATUS: Final = "Succeeded"


def selection_problems(
    selected: Sequence[str], declared: Sequence[DeclaredStep], *, has_source: bool
) -> list[str]:
    """
    Return why a definition does not allow a selection of steps: one line for each
    problem.

    :param selected: the names of the selected steps.
    :param has_source: whether the start names a source execution.
    """
    by_name = {step.name: step for step in declared}
    unknown = [name for name in selected if name not in by_name]
    if unknown:
        return [_unknown_step(name, by_name) for name in unknown]
    above = {name: _above(name, by_name) for name in by_name}
    gaps = list(_gaps(selected, above))
    if gaps or has_source:
        return gaps
    reused = reused_steps(selected, declared)
    if not reused:
        return []
    return [
        "source_execution: is missing, and the selected steps depend on"
        f" {_listed(reused)}; add the ARN of an execution in which they have"
        " succeeded, or 'latest', or select them, too"
    ]


def reused_steps(
    selected: Sequence[str], declared: Sequence[DeclaredStep]
) -> list[str]:
    """
    Return the names of the steps whose results the selected steps take from the source
    execution.
    """
    by_name = {step.name: step for step in declared}
    reused: set[str] = set()
    for name in selected:
        reused |= _above(name, by_name)
    reused -= set(selected)
    return [name for name in by_name if name in reused]


def mark_selection(
    declared: Iterable[DeclaredStep], selected: Sequence[str] | None
) -> list[DeclaredStep]:
    """
    Return the steps of a definition, marked if the execution has not selected them.

    :param selected: the names of the selected steps; none if the execution runs all.
    """
    return [
        step._replace(not_selected=bool(selected and step.name not in selected))
        for step in declared
    ]


def _above(name: str, by_name: Mapping[str, DeclaredStep]) -> set[str]:
    """Return the names of all steps on which a step depends, directly or not."""
    above: set[str] = set()
    pending = [name]
    while pending:
        step = by_name.get(pending.pop())
        if step:
            pending += step.needs - above
            above |= step.needs
    return above - {name}


def _gaps(selected: Sequence[str], above: Mapping[str, set[str]]) -> Iterator[str]:
    chosen = set(selected)
    # The steps between two selected ones, and the selected one after each.
    gaps: dict[str, str] = {}
    for name in selected:
        for gap in sorted(above[name] - chosen):
            if above.get(gap, set()) & chosen:
                gaps[gap] = name
    for gap, name in gaps.items():
        first = min(above[gap] & chosen)
        yield (
            f"{texts.clean_line(gap)}: is between the selected steps {first} and"
            f" {name}; select it, too"
        )


def _unknown_step(name: str, by_name: Mapping[str, DeclaredStep]) -> str:
    nearest = texts.nearest_name(name, by_name)
    if nearest:
        cure = f"did you mean {nearest}?"
    else:
        cure = f"its steps are {_listed(by_name)}"
    return f"{texts.clean_line(name)}: is not a step of the pipeline; {cure}"


def _listed(names: Collection[str], limit: int = MAX_STEP_NAMES) -> str:
    text = ", ".join(texts.clean_line(name) for name in islice(names, limit))
    if len(names) > limit:
        text += f" and {len(names) - limit} more"
    return text
