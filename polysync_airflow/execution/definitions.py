"""
Definitions that a DAG author gives for a pipeline: their sources, what is certainly
wrong with one, and what another one changes.

https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json
from polysync_airflow.execution.pipelines import (
    PipelineDescription,
    declared_parameters,
    declared_steps,
    definition_digest,
    job_steps,
)

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
MAX_DEFINITION: Final = 1_048_576
MAX_CHANGES: Final = 50
_MAX_SHOWN: Final = 120
_SOURCES: Final = (
    "give a dict, JSON text, the path of a file, or a function that returns one of"
    " these or a Pipeline of SageMaker's Python SDK"
)
_NO_CHANGE: Final = "No pipeline was created or updated"
_MISSING: Final = object()
_TAG_CHARACTERS: Final = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]"
TagKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=f"^{_TAG_CHARACTERS}+$"),
]
TagValue = Annotated[
    str, StringConstraints(max_length=256, pattern=f"^{_TAG_CHARACTERS}*$")
]


@dataclass(frozen=True, kw_only=True)
class PipelineDraft:
    """
    What a pipeline is to have, beside its name.

    :param definition: JSON text. AWS compares it with the one that it has, so the same
        definition must be the same text: see ``to_text``.
    :param role_arn: the role that runs the steps.
    :param tags: of a pipeline that is created.
    :param description: None for the one that the pipeline has.
    :param max_parallel_steps: None for the limit that the pipeline has.
    """

    definition: str
    role_arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    max_parallel_steps: int | None = None


def to_text(definition: object) -> str:
    """
    Return a definition as JSON that is the same text for the same value.

    :raises ParametersError: it has a value that JSON does not have.
    """
    try:
        return json.dumps(
            definition, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ParametersError(
            f"The definition is not valid: {error}. Give texts, numbers, booleans,"
            " lists and dicts. Nothing was started."
        ) from None


def tags_to_aws(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return tags as the member of a request."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


class PutArguments(models.StrictModel):
    """
    What a DAG author gives for a pipeline, beside the definition. The fields have the
    names of the operator's arguments.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
    """

    pipeline_name: models.PipelineName = Field(
        description=(
            "Give the pipeline's name, not its ARN: letters, digits and hyphens,"
            " beginning and ending with a letter or digit, at most 256."
        )
    )
    role_arn: models.RoleArn = Field(
        description=(
            "Give the role that runs the steps,"
            " arn:aws:iam::<12-digit account>:role/<name>, here or in the connection."
        )
    )
    pipeline_description: (
        Annotated[str, StringConstraints(max_length=3072, pattern=r"^[^\x00\r\n]*$")]
        | None
    ) = Field(description="Use at most 3,072 characters without line breaks.")
    max_parallel_steps: int | None = Field(
        ge=1,
        le=models.MAX_INTEGER,
        description="Give a whole number from 1, or leave it out.",
    )
    pipeline_tags: Mapping[TagKey, TagValue] = Field(
        max_length=50,
        description=(
            "Give a mapping of at most 50 keys of 1 to 128 characters to texts of at"
            " most 256: letters, digits, spaces and _.:/=+-@."
        ),
    )

    @classmethod
    def of(cls, **arguments: Any) -> PutArguments:
        """
        Return the validated arguments.

        :raises ParametersError: lists each invalid argument with its value and cure.
        """
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            problems = texts.describe_arguments(cls, error)
            raise ParametersError(
                f"{_NO_CHANGE}, because these arguments are not valid:\n{problems}"
            ) from None

    def draft(self, definition: str) -> PipelineDraft:
        """Return what the pipeline is to have."""
        return PipelineDraft(
            definition=definition,
            role_arn=self.role_arn,
            tags=self.pipeline_tags,
            description=self.pipeline_description,
            max_parallel_steps=self.max_parallel_steps,
        )


def definition_text(source: Any, folder: Path) -> str:
    """
    Return the definition of a DAG author's as JSON text that AWS may accept.

    :param source: a dict, JSON text, the path of a file, or an object whose method
        ``definition`` returns one of these, as ``Pipeline`` of SageMaker's Python SDK.
    :param folder: where a relative path begins.
    :raises ParametersError: it is none of these, or AWS would certainly refuse it.
    """
    make = getattr(source, "definition", None)
    while callable(make):
        source = make()
        make = getattr(source, "definition", None)
    if isinstance(source, Mapping):
        text = to_text(source)
    elif isinstance(source, str) and source.lstrip().startswith("{"):
        text = source
    elif isinstance(source, (str, Path)) and str(source).strip():
        text = _read_file(folder / source)
    else:
        raise ParametersError(
            f"definition = {texts.shorten(source)} is not valid: {_SOURCES}."
            f" {_NO_CHANGE}."
        )
    _check(text)
    return text


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        # A path of a NUL, or a text that is no UTF-8, is a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise ParametersError(
            f"definition = {texts.shorten(str(path))} cannot be read: {reason}. A"
            " relative path begins at the folder of the DAG file; JSON text begins with"
            f" {{. {_NO_CHANGE}."
        ) from None


def _check(text: str) -> None:
    """
    Check what is certain. AWS says the rest, before it changes anything.

    :raises ParametersError: AWS would refuse the definition.
    """
    if len(text) > MAX_DEFINITION:
        raise ParametersError(
            f"definition: it has {len(text):,} characters, and AWS accepts at most"
            f" {MAX_DEFINITION:,}. Move texts of its steps, such as scripts, to S3, or"
            f" split the pipeline. {_NO_CHANGE}."
        )
    try:
        declared_parameters(text)
    except ParametersError as error:
        raise ParametersError(f"definition: {error}. {_NO_CHANGE}.") from None
    _, problem = job_steps(declared_steps(text))
    if problem:
        raise ParametersError(f"definition: {problem}. {_NO_CHANGE}.")


def as_it_is(draft: PipelineDraft, pipeline: PipelineDescription) -> PipelineDraft:
    """
    Return a draft with the text that the pipeline has, if its definition differs only
    in white space or the order of keys: AWS may take another text for another version.
    """
    digest = definition_digest(pipeline.definition)
    if digest is None or digest != definition_digest(draft.definition):
        return draft
    return replace(draft, definition=str(pipeline.definition))


def changes(pipeline: PipelineDescription, draft: PipelineDraft) -> list[str]:
    """
    Return what a draft changes: at most ``MAX_CHANGES`` lines, and one that says how
    many more there are.
    """
    lines = [
        f"{name}: was {_shown(before)}, and is {_shown(after)}"
        for name, before, after in (
            ("role_arn", pipeline.role_arn, draft.role_arn),
            ("pipeline_description", pipeline.description, draft.description),
            (
                "max_parallel_steps",
                pipeline.max_parallel_steps,
                draft.max_parallel_steps,
            ),
        )
        # What is not given stays as it is.
        if after is not None and before != after
    ]
    if pipeline.definition != draft.definition:
        lines += _definition_changes(pipeline.definition, draft.definition)
    if len(lines) > MAX_CHANGES:
        lines[MAX_CHANGES:] = [f"and {len(lines) - MAX_CHANGES:,} more"]
    return lines


def _definition_changes(before: str | None, after: str) -> list[str]:
    try:
        old = read_json(before, "the definition that AWS has")
    except UnreadableJsonError as error:
        return [texts.clean_line(str(error))]
    lines = list(_differences(old, read_json(after, "the definition"), ""))
    return lines or ["the order of steps or parameters"]


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    old = _members(before)
    new = _members(after)
    if old is not None and new is not None:
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(
                old.get(name, _MISSING), new.get(name, _MISSING), path + name
            )
        return
    name = texts.clean_line(path.removeprefix("."))
    if before is _MISSING:
        yield f"{name}: is new: {_shown(after)}"
    elif after is _MISSING:
        yield f"{name}: was removed; it was {_shown(before)}"
    elif _shown(before, full=True) != _shown(after, full=True):
        yield f"{name}: was {_shown(before)}, and is {_shown(after)}"


def _members(value: Any) -> dict[str, Any] | None:
    """
    Return the members of an object or a list, by their ends of a path; None for any
    other value. Steps and parameters are found by their names, wherever they are.
    """
    if isinstance(value, dict):
        return {f".{name}": member for name, member in value.items()}
    if not isinstance(value, list):
        return None
    named = {
        entry["Name"]: entry
        for entry in value
        if isinstance(entry, dict) and isinstance(entry.get("Name"), str)
    }
    entries = named.items() if len(named) == len(value) else enumerate(value)
    return {f"[{name}]": entry for name, entry in entries}


def _shown(value: Any, *, full: bool = False) -> str:
    # Python takes True for 1, and JSON does not.
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if full else texts.clean_line(text, _MAX_SHOWN)
