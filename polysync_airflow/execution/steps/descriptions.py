"""
AWS's description of a step, validated and bounded, what each kind of step makes, and
the XComs ``steps`` and ``outputs``, which are made of the descriptions.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStepMetadata.html

Everything here is pure.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import accumulate, islice
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from polysync_airflow.execution import console, models, texts
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json
from polysync_airflow.execution.parameters import DEFER_BUILD
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.states import PolysyncState, state_of_step


class StepKind(NamedTuple):
    """A kind of step; kinds.toml says what its members mean."""

    noun: str | None = None
    job_member: str = "Arn"
    id_member: str | None = None
    page: str | None = None
    no_page: str | None = None
    log_group: str | None = None
    stream_prefix: str = "{name}/"
    service: str = "sagemaker"


# By the member of the metadata.
STEP_KINDS: Final = {
    name: StepKind(**members)
    for name, members in tomllib.loads(
        Path(__file__).with_name("kinds.toml").read_text()
    ).items()
}
# The type of a step in a definition, by the member of the metadata: Training for
# TrainingJob.
STEP_TYPES: Final = {kind: kind.removesuffix("Job") or kind for kind in STEP_KINDS}
# The type of a step that ends its execution as failed.
FAIL: Final = "Fail"
# A person who reads it can end the step in place of the system that should.
_SECRET_MEMBERS: Final = frozenset({"CallbackToken"})
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def outputs_of(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a step made, with the names that the XCom ``outputs`` has.

    ``Arn`` becomes ``<what it is>_arn``, such as ``model_package_arn``; the output
    parameters become a dict. All else keeps AWS's name, in snake case. A kind that this
    version does not know is treated in the same way.

    :param kind: the member of the step's metadata.
    """
    noun = STEP_KINDS.get(kind, StepKind()).noun or snake_case(kind)
    outputs: dict[str, Any] = {}
    for member, value in metadata.items():
        if value is None or member in _SECRET_MEMBERS:
            continue
        if member == "Arn":
            outputs[f"{noun}_arn"] = value
        elif member == "OutputParameters" and isinstance(value, list):
            entries = [entry for entry in value if isinstance(entry, Mapping)]
            named = {
                str(each["Name"]): each.get("Value")
                for each in entries
                if "Name" in each
            }
            outputs["output_parameters"] = named
        else:
            outputs[snake_case(member)] = value
    return outputs


def snake_case(name: str) -> str:
    """Return a name of AWS in snake case: ``SqsQueueUrl`` becomes ``sqs_queue_url``."""
    return _WORD.sub("_", name).lower()


# Of the metadata of a step: AWS allows 50 output parameters, and the other kinds have
# fewer members.
_MAX_ENTRIES: Final = 100
_MAX_VALUES: Final = 250
_MAX_DEPTH: Final = 6


def _bounded(value: Any, depth: int = 0, left: Iterator[int] | None = None) -> Any:
    """Return a part of AWS's metadata as JSON of limited size, with clean texts."""
    left = left or iter(range(_MAX_VALUES))
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        entries = list(islice(value.items(), _MAX_ENTRIES))
        return {
            texts.clean_value(str(name), 256): _bounded(each, depth + 1, left)
            for (name, each), _ in zip(entries, left, strict=False)
        }
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        pairs = zip(value[:_MAX_ENTRIES], left, strict=False)
        return [_bounded(each, depth + 1, left) for each, _ in pairs]
    if (
        value is None
        or isinstance(value, (bool, int))
        or (isinstance(value, float) and isfinite(value))
    ):
        return value
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return texts.clean_value(text, texts.MAX_VALUE_LENGTH)


class StepDescription(models.FrozenModel):
    """
    One step of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
    """

    name: texts.NameText = Field(validation_alias="StepName")
    status: str | None = Field(
        None, validation_alias="StepStatus", pattern=models.STATUS_PATTERN
    )
    failure_reason: texts.ReasonText | None = Field(
        None, validation_alias="FailureReason"
    )
    attempt_count: texts.Count = Field(None, validation_alias="AttemptCount")
    started_at: models.ResponseTime = Field(None, validation_alias="StartTime")
    ended_at: models.ResponseTime = Field(None, validation_alias="EndTime")
    cache_hit: bool = False
    is_reused: bool = False
    # The ForEach step that runs it.
    loop: Annotated[texts.NameText | None, texts.LENIENT] = None
    # A damaged ARN must not hide the step.
    reused_from: Annotated[models.ExecutionArn | None, texts.LENIENT] = None
    metadata: Annotated[dict[str, Any], BeforeValidator(_bounded)] = Field(
        {}, validation_alias="Metadata"
    )

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        cache_hit = data.get("CacheHitResult")
        # A selective execution takes the steps that are not selected from another
        # execution.
        reused = cache_hit or data.get("SelectiveExecutionResult")
        source = (
            reused.get("SourcePipelineExecutionArn")
            if isinstance(reused, Mapping)
            else None
        )
        flat: dict[str, Any] = {
            **data,
            "Metadata": data.get("Metadata") or {},
            "cache_hit": bool(cache_hit),
            "is_reused": bool(reused),
            "reused_from": source,
        }
        iteration = data.get("IterationContext")
        if isinstance(iteration, Mapping) and isinstance(iteration.get("Index"), int):
            # The name that AWS's SDK documents, whether AWS's list has the index in it
            # or not.
            suffix = f"-{iteration['Index']}"
            flat["StepName"] = (
                f"{str(data.get('StepName')).removesuffix(suffix)}{suffix}"
            )
            flat["loop"] = iteration.get("ParentStepName")
        return flat

    @property
    def kind(self) -> str | None:
        """The member of the metadata that is set, which tells the kind of the step."""
        return next(
            (kind for kind, value in self.metadata.items() if isinstance(value, dict)),
            None,
        )

    @property
    def facts(self) -> StepKind:
        """What this version knows of the kind of the step."""
        return STEP_KINDS.get(self.kind or "", StepKind())

    def text(self, member: str | None) -> str | None:
        """
        Return the text of a member of what AWS says of the step's kind; None if it is
        none.
        """
        value = self.metadata[self.kind].get(member) if self.kind else None
        return value if isinstance(value, str) else None

    @property
    def outcome(self) -> str | None:
        """
        The outcome of a condition: ``True`` or ``False``; None if there is none yet.
        """
        return self.text("Outcome") if self.kind == "Condition" else None

    @property
    def job_arn(self) -> str | None:
        """The ARN of what the step runs or makes; None if it has none."""
        return self.text(self.facts.job_member)

    @property
    def seconds(self) -> float | None:
        """How long the step took; None if it has not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def log_source(step: StepDescription) -> tuple[str, str] | None:
    """
    Return the CloudWatch log group of a step's job, and the beginning of the names of
    its log streams.

    :return: None if the kind of the step writes no log, or if it has no job yet.
    """
    kind, name = step.facts, job_name_of(step)
    if name is None or kind.log_group is None:
        return None
    return kind.log_group.format(name=name), kind.stream_prefix.format(name=name)


def job_name_of(step: StepDescription) -> str | None:
    """
    Return the name of a step's job, which is the end of its ARN, or its id; None if it
    has no job yet.
    """
    arn = step.job_arn
    if arn is None or not arn.startswith("arn:"):
        return step.text(step.facts.id_member)
    name = arn.split(":", 5)[-1]
    # arn:aws:sagemaker:<region>:<account>:training-job/<name>
    # arn:aws:lambda:<region>:<account>:function:<name>
    return (
        name.partition(":")[2]
        if name.startswith("function:")
        else name.partition("/")[2] or None
    )


# Keys of XComs.
STEPS_KEY: Final = "steps"
OUTPUTS_KEY: Final = "outputs"
NOT_STARTED: Final = "NotStarted"
# Airflow's documentation asks for small XComs; MySQL's default column ends at 64 KiB.
MAX_XCOM_BYTES: Final = 48 * 1024
# Of the steps in a stored trigger. A triggerer holds thousands of them.
MAX_ORDER_LENGTH: Final = 16 * 1024
# How much of it the lines of logs may take.
MAX_LOG_BYTES: Final = 24 * 1024
MAX_ROWS: Final = models.MAX_STEP_ROWS
_SHORT_REASON: Final = 200
# Of the outputs of a step, in bytes.
_LONG_VALUE: Final = 512
MAX_NAMED: Final = 5


class StepRow(models.FrozenModel):
    """
    An entry of the XCom ``steps``. In JSON, times are ISO 8601 in UTC.

    :param condition: the Condition step in whose branch it is; None if it is in none.
    :param branch: the outcome with which this branch is taken: ``True`` or ``False``.
    :param not_taken: whether the condition had the other outcome.
    :param not_selected: whether a selective execution leaves it out: it neither runs it
        nor takes its result.
    :param reused_from: the ARN of the execution from which its result was taken; None
        if it has run.
    """

    name: texts.NameText
    type: texts.NameText | None = None
    condition: texts.NameText | None = None
    branch: texts.NameText | None = None
    not_taken: bool = False
    not_selected: bool = False
    state: texts.NameText
    status: texts.NameText | None = None
    started_at: models.UtcTime | None = None
    ended_at: models.UtcTime | None = None
    seconds: float | None = None
    attempt: texts.Count = None
    cache_hit: bool = False
    reused_from: texts.ArnText | None = None
    reason: texts.ReasonText | None = None
    job_arn: texts.ArnText | None = None
    job_name: texts.NameText | None = None
    console_url: texts.ArnText | None = None
    log_url: texts.ArnText | None = None
    log_lines: Sequence[texts.LineText] = ()


# What an entry has, under the same names, of the definition and of AWS's list.
_OF_DEFINITION: Final = ("name", "type", "condition", "branch", "not_selected")
_OF_LIST: Final = StepRow.model_fields.keys() & {
    *StepDescription.model_fields,
    "seconds",
    "job_arn",
}
_ROWS: Final = TypeAdapter(
    Annotated[list[StepRow], Field(max_length=MAX_ROWS)], config=DEFER_BUILD
)
_ORDER: Final = TypeAdapter(
    Annotated[
        list[tuple[str, str | None, str | None, str | None, bool]],
        Field(max_length=MAX_ROWS),
    ],
    config=DEFER_BUILD,
)


def parse_rows(value: Any) -> list[StepRow]:
    """
    Return the rows of an XCom ``steps``; none if there is no such XCom, or if somebody
    has changed it.
    """
    try:
        return _ROWS.validate_python(value or [])
    except ValidationError:
        return []


def order_text(steps: Sequence[DeclaredStep | StepRow]) -> str:
    """
    Return what a definition says of each step in the XCom ``steps``, in its order, for
    ``order_of``.
    """
    return json.dumps(
        [[getattr(step, member) for member in _OF_DEFINITION] for step in steps]
    )


def order_of(text: str) -> list[DeclaredStep]:
    """
    Return the steps of which ``order_text`` has made a text; none if somebody has
    changed it.
    """
    try:
        rows = _ORDER.validate_python(read_json(text, "the order of the steps"))
    except (UnreadableJsonError, ValidationError):
        return []
    return [
        DeclaredStep(
            name=name,
            type=kind,
            condition=condition,
            branch=branch,
            not_selected=not_selected,
        )
        for name, kind, condition, branch, not_selected in rows
    ]


def rows_of(
    steps: Sequence[StepDescription],
    order: Sequence[DeclaredStep | StepRow],
    execution_arn: models.ExecutionArn,
) -> list[StepRow]:
    """
    Return the rows of the XCom ``steps``: the steps that AWS has begun, and those that
    it has not.

    :param order: the steps in the order of the definition, or the rows before. Steps
        that are not in it follow in the order in which AWS began them, those of a loop
        right after it.
    """
    by_name = {step.name: step for step in steps}
    outcomes = {step.name: step.outcome for step in steps}
    not_taken: set[str] = set()
    rows = []
    for declared in order:
        step = by_name.pop(declared.name, None)
        if step:
            rows.append(_row_of(step, declared, execution_arn))
            continue
        # A condition comes before its branches.
        outcome = outcomes.get(declared.condition or "")
        if declared.condition in not_taken or (outcome and outcome != declared.branch):
            not_taken.add(declared.name)
        rows.append(
            StepRow(
                **{member: getattr(declared, member) for member in _OF_DEFINITION},
                not_taken=declared.name in not_taken,
                state=NOT_STARTED,
            )
        )
    # Those that have not begun have no time; they come last.
    others = sorted(
        by_name.values(),
        key=lambda step: (not step.started_at, step.started_at, step.name),
    )
    rows += [_row_of(step, None, execution_arn) for step in others]
    # What a loop runs follows it.
    places = {row.name: place for place, row in enumerate(rows)}
    loops = {step.name: places[step.loop] for step in steps if step.loop in places}
    return sorted(
        rows, key=lambda row: (loops.get(row.name, places[row.name]), row.name in loops)
    )


def outputs_by_step(steps: Sequence[StepDescription]) -> dict[str, dict[str, Any]]:
    """Return the XCom ``outputs``: what each step made, by the name of the step."""
    outputs = {}
    for step in sorted(steps, key=lambda step: step.name):
        if step.kind and (made := outputs_of(step.kind, step.metadata[step.kind])):
            outputs[step.name] = made
    return outputs


def model_package_arns(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ARNs of the model packages that an execution has registered."""
    arns = (made.get("model_package_arn") for made in outputs.values())
    return [arn for arn in arns if isinstance(arn, str)]


def last_lines(lines: Sequence[str], logs: int) -> list[str]:
    """
    Return the last lines of a log that fit into the XCom ``steps`` beside its rows.

    :param logs: how many logs share the space.
    """
    sizes = [_size(line) for line in reversed(lines)]
    count = _count_that_fits(sizes, MAX_LOG_BYTES // max(1, logs))
    return list(lines[len(lines) - count :])


def fit_rows(rows: Sequence[StepRow]) -> tuple[list[dict[str, Any]], str | None]:
    """
    Return rows as JSON of at most ``MAX_XCOM_BYTES``, and a note if something had to be
    left out.
    """
    fitted = _ROWS.dump_python(list(rows[:MAX_ROWS]), mode="json")
    without_links = partial(_without, ("console_url", "log_url"))
    without_jobs = partial(_without, ("job_arn", "job_name", "reused_from"))
    for shorten in (
        without_links,
        without_jobs,
        _without_empty_members,
        _without_long_texts,
    ):
        if _size(fitted) <= MAX_XCOM_BYTES:
            break
        fitted = [shorten(row) for row in fitted]
    else:
        fitted = fitted[: _count_that_fits([_size(row) for row in fitted])]
    if len(fitted) == len(rows):
        return fitted, None
    return (
        fitted,
        (
            f"The XCom steps has the first {len(fitted)} of {len(rows)} steps: the rest"
            " is too long."
        ),
    )


def fit_outputs(
    outputs: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], str | None]:
    """
    Return outputs of at most ``MAX_XCOM_BYTES`` as JSON, and a note if something had to
    be left out.
    """
    fitted = {step: dict(made) for step, made in outputs.items()}
    # The longest values first, such as reports, so that each step keeps what identifies
    # it.
    values = [
        (_size(value), step, name)
        for step, made in outputs.items()
        for name, value in made.items()
    ]
    left_out = []
    excess = _size(fitted) - MAX_XCOM_BYTES
    for size, step, name in sorted(values, reverse=True):
        if excess <= 0 or size < _LONG_VALUE:
            break
        del fitted[step][name]
        left_out.append(f"{step}.{name}")
        excess -= size
    # Model packages first: they are what the next task needs most.
    names = sorted(
        fitted, key=lambda name: ("model_package_arn" not in fitted[name], name)
    )
    kept = set(
        names[: _count_that_fits([_size({name: fitted[name]}) for name in names])]
    )
    fitted = {name: made for name, made in fitted.items() if name in kept}
    left_out += [step for step in outputs if step not in fitted]
    if not left_out:
        return fitted, None
    more = f" and {len(left_out) - MAX_NAMED} more" if len(left_out) > MAX_NAMED else ""
    return (
        fitted,
        (
            "The XCom outputs lacks what is too long:"
            f" {', '.join(left_out[:MAX_NAMED])}{more}."
        ),
    )


def _row_of(
    step: StepDescription, declared: DeclaredStep | StepRow | None, execution_arn: str
) -> StepRow:
    return StepRow(
        **{member: getattr(step, member) for member in _OF_LIST},
        type=STEP_TYPES.get(step.kind or "")
        or (declared and declared.type)
        or step.kind,
        condition=declared and declared.condition,
        branch=declared and declared.branch,
        state=state_of_step(step.status).value,
        attempt=step.attempt_count,
        reason=step.failure_reason,
        job_name=job_name_of(step),
        console_url=_job_url(step, execution_arn),
        log_url=log_url_of(step, execution_arn),
    )


def log_url_of(step: StepDescription, execution_arn: str) -> str | None:
    """Return the URL of a step's log in the console; None if it has none."""
    source = log_source(step)
    if source:
        return console.log_url(execution_arn, *source)
    # EMR and EMR Serverless write their logs to S3.
    return console.folder_url(execution_arn, step.text("LogFilePath") or "")


def _job_url(step: StepDescription, execution_arn: str) -> str | None:
    kind, name = step.facts, job_name_of(step)
    if kind.page is None or name is None:
        return None
    return console.service_url(execution_arn, kind.service, kind.page.format(name=name))


def _without(members: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    return (
        row
        if row["state"] == PolysyncState.FAILED.value
        else {**row, **dict.fromkeys(members)}
    )


def _without_empty_members(row: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in row.items() if value or member == "name"}


def _without_long_texts(row: dict[str, Any]) -> dict[str, Any]:
    reason = row.get("reason")
    shortened = {"reason": texts.clean_value(reason, _SHORT_REASON)} if reason else {}
    return {**row, "log_lines": [], **shortened}


def _size(value: Any) -> int:
    # Two bytes for the separators around an entry.
    return len(json.dumps(value).encode()) + 2


def _count_that_fits(sizes: Sequence[int], limit: int = MAX_XCOM_BYTES) -> int:
    return bisect_right(list(accumulate(sizes)), limit - 2)
