"""
Definitions that a DAG author gives for a pipeline: their sources, what is certainly
wrong with one, and what another one changes.

https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, pipelines, texts
from polysync_airflow.execution.job_types import MAX_PIPELINE_NAME, STARTS_JOB
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
MAX_DEFINITION: Final = 1_048_576
MAX_CHANGES: Final = 50
_MAX_SHOWN: Final = 120
_NO_CHANGE: Final = "No pipeline was created or updated"


def _check(definition: str) -> str:
    """Check what is certain. AWS says the rest, before it changes anything."""
    try:
        pipelines.declared_parameters(definition)
    except ParametersError as error:
        raise ValueError(str(error)) from None
    _, problem = pipelines.job_steps(pipelines.declared_steps(definition))
    if problem:
        raise ValueError(problem)
    return definition


class PipelineDraft(models.StrictModel):
    """
    What a pipeline is to have. The fields have the names of the operator's arguments.

    AWS compares the text of the definition with the one that it has, so the same
    definition must be the same text: see ``to_text``.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html

    :param pipeline_tags: of a pipeline that is created.
    """

    pipeline_name: models.PipelineName = Field(
        description=(
            "Give the pipeline's name, not its ARN: letters, digits and hyphens,"
            " beginning and ending with a letter or digit, at most 256."
        )
    )
    definition: Annotated[
        str, StringConstraints(max_length=MAX_DEFINITION), AfterValidator(_check)
    ] = Field(
        description=(
            f"AWS accepts valid JSON of at most {MAX_DEFINITION:,} characters; move"
            " long texts of steps, such as scripts, to S3."
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
    ) = Field(None, description="Use at most 3,072 characters without line breaks.")
    max_parallel_steps: models.MaxParallelSteps = None
    pipeline_tags: Mapping[str, str] = Field(
        default_factory=dict,
        max_length=50,
        description="Give a mapping of at most 50 texts to texts.",
    )

    @classmethod
    def of(cls, **arguments: Any) -> PipelineDraft:
        """
        Return the validated draft.

        :raises ParametersError: lists each invalid argument with its value and cure.
        """
        try:
            draft = cls.model_validate(arguments)
        except ValidationError as error:
            problems = texts.describe_arguments(cls, error)
            raise ParametersError(
                f"{_NO_CHANGE}, because these arguments are not valid:\n{problems}"
            ) from None
        steps = pipelines.all_steps(pipelines.declared_steps(draft.definition))
        jobs = [step.name for step in steps if step.type in STARTS_JOB]
        if jobs and len(draft.pipeline_name) > MAX_PIPELINE_NAME:
            raise ParametersError(
                f"pipeline_name = {texts.shorten(draft.pipeline_name)} is not valid:"
                f" step {jobs[0]} starts a job, and AWS was seen to refuse names over"
                f" {MAX_PIPELINE_NAME} characters, though it documents 256; shorten it."
                f" {_NO_CHANGE}."
            )
        return draft


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


def definition_text(source: Any, folder: Path) -> str:
    """
    Return the definition of a DAG author's as text.

    :param source: a dict, JSON text, the path of a file, or an object whose method
        ``definition`` returns one of these, as ``Pipeline`` of SageMaker's Python SDK.
    :param folder: where a relative path begins.
    :raises ParametersError: it is none of these, or the file cannot be read.
    """
    while callable(getattr(source, "definition", None)):
        source = source.definition()
    if isinstance(source, Mapping):
        return to_text(source)
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return source
    problem = "give a dict, JSON text, the path of a file, or a function"
    if isinstance(source, (str, Path)):
        try:
            return (folder / source).read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            # A path with a NUL, and a text that is no UTF-8, are a ValueError.
            problem = f"{error}. A relative path begins at the folder of the DAG file"
    raise texts.invalid_argument("definition", source, f"{problem}. {_NO_CHANGE}")


def changes(pipeline: pipelines.PipelineDescription, draft: PipelineDraft) -> list[str]:
    """
    Return what a draft changes, as at most ``MAX_CHANGES`` lines. What it does not give
    stays as it is.
    """
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    for name, before, after in (
        ("role_arn", pipeline.role_arn, draft.role_arn),
        ("pipeline_description", pipeline.description, draft.pipeline_description),
        ("max_parallel_steps", pipeline.max_parallel_steps, draft.max_parallel_steps),
    ):
        if after is not None:
            old[name] = json.dumps(before)
            new[name] = json.dumps(after)
    old.update(_values(_content(pipeline.definition)))
    new.update(_values(_content(draft.definition)))
    lines = [
        f"{texts.clean_line(name)}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    if not lines and pipeline.definition != draft.definition:
        return ["the order of steps or parameters"]
    return texts.first_problems(lines, MAX_CHANGES)


def _content(definition: str | None) -> Any:
    with suppress(UnreadableJsonError):
        return read_json(definition or "", "the definition")
    return {}


def _values(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """
    Yield each value in a definition as JSON, after its path. Steps and parameters are
    found by their names, wherever they are.
    """
    members: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        members = [(f".{name}", member) for name, member in value.items()]
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            name = entry.get("Name", index) if isinstance(entry, dict) else index
            members.append((f"[{name}]", entry))
    for end, member in members:
        yield from _values(member, path + end)
    if not members:
        yield path.removeprefix("."), json.dumps(value, ensure_ascii=False)


def _shown(values: Mapping[str, str], name: str) -> str:
    return texts.clean_line(values.get(name, "(none)"), _MAX_SHOWN)
