"""
AWS's description of a step, what each kind of step makes, and the XComs ``steps`` and
``outputs``, which are made of the descriptions.

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
from itertools import accumulate, islice
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from polysync_airflow.execution import console, json_input, models, parameters, texts
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.states import PolysyncState, state_of_step


class StepKind(NamedTuple):
    """A kind of step; ``kinds.toml`` says what its members mean."""

    noun: str | None = None
    job_member: str = "Arn"
    id_member: str | None = None
    page: str | None = None
    no_page: str | None = None
    log_group: str | None = None
    stream_prefix: str = "{name}/"
    service: str = "sagemaker"
    uncounted: str | None = None


# By the member of the metadata.
STEP_KINDS: Final = {
    name: StepKind(**members)
    for name, members in tomllib.loads(
        Path(__file__).with_name("kinds.toml").read_text()
    ).items()
}
# A kind that this version does not know.
_NEWER_KIND: Final = StepKind(uncounted="steps of a newer type")
# The type of a step in a definition, by the member of the metadata: Training for
# TrainingJob.
STEP_TYPES: Final = {kind: kind.removesuffix("Job") or kind for kind in STEP_KINDS}
# The type of a step that ends its execution as failed.
FAIL: Final = "Fail"
# Whoever reads it can end the step in place of the system that should.
_SECRET_MEMBERS: Final = frozenset({"CallbackToken"})
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def outputs_of(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what a step made, with the names that the XCom ``outputs`` has.

    ``Arn`` becomes ``<noun>_arn``, such as ``model_package_arn``; the output parameters
    become a dict. All else keeps AWS's name, in snake case. A kind that this version
    does not know is treated in the same way.

    :param kind: the member of the step's metadata.
    :param metadata: the value of this member.
    """
    noun = STEP_KINDS.get(kind, StepKind()).noun or snake_case(kind)
    outputs: dict[str, Any] = {}
    for member, value in metadata.items():
        if value is None or member in _SECRET_MEMBERS:
            continue
        if member == "Arn":
            outputs[f"{noun}_arn"] = value
        elif member == "OutputParameters" and isinstance(value, list):
            outputs["output_parameters"] = {
                str(parameter["Name"]): parameter.get("Value")
                for parameter in value
                if isinstance(parameter, Mapping) and "Name" in parameter
            }
        else:
            outputs[snake_case(member)] = value
    return outputs


def snake_case(name: str) -> str:
    """Return a name of AWS in snake case: ``SqsQueueUrl`` becomes ``sqs_queue_url``."""
    return _WORD.sub("_", name).lower()


# Entries in the metadata of a step. AWS allows 50 output parameters, and other kinds
# have fewer members.
_MAX_ENTRIES: Final = 100
_MAX_VALUES: Final = 250
_MAX_DEPTH: Final = 6


def _bounded(metadata: Any) -> Any:
    """Return AWS's metadata as JSON of limited size, with clean texts."""
    return _bounded_value(metadata, 0, iter(range(_MAX_VALUES)))


def _bounded_value(value: Any, depth: int, left: Iterator[int]) -> Any:
    # Each value of a list or an object takes one entry of ``left``.
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        members = list(islice(value.items(), _MAX_ENTRIES))
        return {
            texts.clean_value(str(name), 256): _bounded_value(item, depth + 1, left)
            for (name, item), _ in zip(members, left, strict=False)
        }
    if isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
        return [
            _bounded_value(item, depth + 1, left)
            for item, _ in zip(value[:_MAX_ENTRIES], left, strict=False)
        ]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, datetime):
        value = value.isoformat()
    return texts.clean_value(str(value), texts.MAX_VALUE_LENGTH)


def _source_in(result: Any) -> Any:
    """Return the source execution of a reused result; None if none was reused."""
    if not isinstance(result, Mapping):
        return None
    return result.get("SourcePipelineExecutionArn")


class StepDescription(models.AwsModel):
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

    @classmethod
    def _flatten(cls, answer: dict[str, Any]) -> dict[str, Any]:
        cached_from = _source_in(answer.get("CacheHitResult"))
        # A selective execution takes the results of the other steps from a source.
        reused_from = cached_from or _source_in(answer.get("SelectiveExecutionResult"))
        flat: dict[str, Any] = {
            **answer,
            "Metadata": answer.get("Metadata") or {},
            "cache_hit": bool(cached_from),
            "is_reused": bool(reused_from),
            "reused_from": reused_from,
        }
        iteration = answer.get("IterationContext")
        if isinstance(iteration, Mapping) and isinstance(iteration.get("Index"), int):
            # The name that AWS's SDK documents, whether AWS's list has the index in it
            # or not.
            suffix = f"-{iteration['Index']}"
            name = str(answer.get("StepName")).removesuffix(suffix)
            flat["StepName"] = f"{name}{suffix}"
            flat["loop"] = iteration.get("ParentStepName")
        return flat

    @property
    def kind(self) -> str | None:
        """The kind of the step: the member of the metadata that AWS has set."""
        for kind, value in self.metadata.items():
            if isinstance(value, dict):
                return kind
        return None

    @property
    def facts(self) -> StepKind:
        """What this version knows of the kind of the step."""
        return STEP_KINDS.get(self.kind or "", _NEWER_KIND)

    def text(self, member: str | None) -> str | None:
        """
        Return the text of a member that the metadata has for the step's kind; None if
        it is no text.
        """
        if not self.kind:
            return None
        value = self.metadata[self.kind].get(member)
        if not isinstance(value, str):
            return None
        return value

    @property
    def outcome(self) -> str | None:
        """
        The outcome of a condition: ``True`` or ``False``; None if there is none yet.
        """
        if self.kind != "Condition":
            return None
        return self.text("Outcome")

    @property
    def job_arn(self) -> str | None:
        """The ARN of what the step runs or makes; None if it has none."""
        return self.text(self.facts.job_member)

    @property
    def state(self) -> PolysyncState:
        """The state of the step."""
        return state_of_step(self.status)

    @property
    def has_run(self) -> bool:
        """Whether an attempt of the step has begun, as far as the list says so."""
        if self.is_reused:
            return False
        return self.state is PolysyncState.SUCCESS or self.job_arn is not None

    @property
    def seconds(self) -> float | None:
        """How long the step took; None if it has not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def counted_from_one(steps: Sequence[StepDescription]) -> list[StepDescription]:
    """
    Return the steps of a list with attempts that are counted from 1.

    AWS documents no first ``AttemptCount``, and a test of AWS's Python SDK has 0. If a
    step that has run has this count, those of the list are counted from 0.
    """
    if not any(step.attempt_count == 0 and step.has_run for step in steps):
        return list(steps)
    return [
        step.model_copy(update={"attempt_count": step.attempt_count + 1})
        if step.attempt_count is not None and not step.is_reused
        else step
        for step in steps
    ]


def log_source(step: StepDescription) -> tuple[str, str] | None:
    """
    Return the CloudWatch log group of a step's job, and the beginning of the names of
    its log streams.

    :return: None if the kind of the step writes no log, or if it has no job yet.
    """
    kind = step.facts
    name = job_name_of(step)
    if name is None or kind.log_group is None:
        return None
    return kind.log_group.format(name=name), kind.stream_prefix.format(name=name)


def job_name_of(step: StepDescription) -> str | None:
    """
    Return the name of a step's job: the end of its ARN, or its id; None if the step has
    no job yet.
    """
    arn = step.job_arn
    if arn is None or not arn.startswith("arn:"):
        return step.text(step.facts.id_member)
    resource = arn.split(":", 5)[-1]
    if resource.startswith("function:"):
        # arn:aws:lambda:<region>:<account>:function:<name>
        return resource.removeprefix("function:")
    # arn:aws:sagemaker:<region>:<account>:training-job/<name>
    return resource.partition("/")[2] or None


# Keys of XComs.
STEPS_KEY: Final = "steps"
OUTPUTS_KEY: Final = "outputs"
NOT_STARTED: Final = "NotStarted"
# Airflow's documentation asks for small XComs; MySQL's default column ends at 64 KiB.
MAX_XCOM_BYTES: Final = 48 * 1024
# The declared steps in a stored trigger. A triggerer holds thousands of triggers.
MAX_ORDER_LENGTH: Final = 16 * 1024
# How much of an XCom the lines of logs may take.
MAX_LOG_BYTES: Final = 24 * 1024
MAX_ROWS: Final = models.MAX_STEP_ROWS
_SHORT_REASON: Final = 200
# An output of a step with so many bytes may be left out.
_LONG_VALUE: Final = 512
MAX_NAMED: Final = 5


class StepRow(models.FrozenModel):
    """
    An entry of the XCom ``steps``. In JSON, times are ISO 8601 in UTC.

    :param condition: the Condition step in whose branch the step is; None if it is in
        none.
    :param branch: the outcome with which this branch is taken: ``True`` or ``False``.
    :param not_taken: whether the condition had the other outcome.
    :param not_selected: whether a selective execution leaves the step out: it neither
        runs the step nor takes its result.
    :param reused_from: the ARN of the execution from which the result was taken; None
        if the step has run.
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

    @property
    def is_left_out(self) -> bool:
        """Whether the execution does not run the step."""
        return self.not_taken or self.not_selected


# What a row has, under the same names, of the definition, and of AWS's list.
_OF_DEFINITION: Final = ("name", "type", "condition", "branch", "not_selected")
_OF_LIST: Final = StepRow.model_fields.keys() & {
    *StepDescription.model_fields,
    "seconds",
    "job_arn",
}
_ROWS: Final = TypeAdapter(
    Annotated[list[StepRow], Field(max_length=MAX_ROWS)], config=parameters.DEFER_BUILD
)
_ORDER: Final = TypeAdapter(
    Annotated[
        list[tuple[str, str | None, str | None, str | None, bool]],
        Field(max_length=MAX_ROWS),
    ],
    config=parameters.DEFER_BUILD,
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
    Return what the XCom ``steps`` has of a definition, as a text that ``order_of``
    reads.
    """
    return json.dumps(
        [[getattr(step, member) for member in _OF_DEFINITION] for step in steps]
    )


def order_of(text: str) -> list[DeclaredStep]:
    """
    Return the declared steps in a text of ``order_text``; none if somebody has changed
    the text.
    """
    try:
        rows = _ORDER.validate_python(
            json_input.read_json(text, "the order of the steps")
        )
    except (json_input.UnreadableJsonError, ValidationError):
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

    :param order: the steps in the order of the definition, or the rows before. Other
        steps follow in the order in which AWS began them; those of a loop follow the
        loop.
    """
    outcomes = {step.name: step.outcome for step in steps}
    not_listed = {step.name: step for step in steps}
    rows = []
    not_taken: set[str] = set()
    for declared in order:
        step = not_listed.pop(declared.name, None)
        if step:
            rows.append(_row_of(step, declared, execution_arn))
            continue
        condition = declared.condition
        if condition:
            # A condition comes before its branches.
            outcome = outcomes.get(condition)
            if condition in not_taken or (outcome and outcome != declared.branch):
                not_taken.add(declared.name)
        rows.append(
            StepRow(
                **{member: getattr(declared, member) for member in _OF_DEFINITION},
                not_taken=declared.name in not_taken,
                state=NOT_STARTED,
            )
        )

    def begin(step: StepDescription) -> tuple[Any, ...]:
        # Steps without a time have not begun; they come last.
        return not step.started_at, step.started_at, step.name

    for step in sorted(not_listed.values(), key=begin):
        rows.append(_row_of(step, None, execution_arn))
    return _with_steps_after_their_loop(rows, steps)


def _with_steps_after_their_loop(
    rows: Sequence[StepRow], steps: Sequence[StepDescription]
) -> list[StepRow]:
    places = {row.name: place for place, row in enumerate(rows)}
    place_of_loop = {
        step.name: places[step.loop] for step in steps if step.loop in places
    }

    def place(row: StepRow) -> tuple[int, bool]:
        if row.name in place_of_loop:
            return place_of_loop[row.name], True
        return places[row.name], False

    return sorted(rows, key=place)


def outputs_by_step(steps: Sequence[StepDescription]) -> dict[str, dict[str, Any]]:
    """Return the XCom ``outputs``: what each step made, by the name of the step."""
    by_step = {}
    for step in sorted(steps, key=lambda step: step.name):
        if not step.kind:
            continue
        outputs = outputs_of(step.kind, step.metadata[step.kind])
        if outputs:
            by_step[step.name] = outputs
    return by_step


def model_package_arns(outputs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ARNs of the model packages that an execution has registered."""
    arns = [of_step.get("model_package_arn") for of_step in outputs.values()]
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
    Return rows as JSON of at most ``MAX_XCOM_BYTES``, and a note if rows had to be left
    out.
    """
    fitted = _ROWS.dump_python(list(rows[:MAX_ROWS]), mode="json")
    for shorten in (
        _without_links,
        _without_jobs,
        _without_empty_members,
        _without_long_texts,
    ):
        if _size(fitted) <= MAX_XCOM_BYTES:
            break
        fitted = [shorten(row) for row in fitted]
    if _size(fitted) > MAX_XCOM_BYTES:
        fitted = fitted[: _count_that_fits([_size(row) for row in fitted])]
    if len(fitted) == len(rows):
        return fitted, None
    note = (
        f"The XCom steps has the first {len(fitted)} of {len(rows)} steps: the rest is"
        " too long."
    )
    return fitted, note


def step_value(row: StepRow, job_facts: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the XCom ``step`` of a step's task: its row, with facts about its job as far
    as they are known and fit into ``MAX_XCOM_BYTES``.
    """
    (value,), _ = fit_rows([row])
    for name, fact in job_facts.items():
        if fact and _size({**value, name: fact}) <= MAX_XCOM_BYTES:
            value[name] = fact
    return value


def fit_outputs(
    outputs: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Any], str | None]:
    """
    Return outputs of at most ``MAX_XCOM_BYTES`` as JSON, and a note if something had to
    be left out.
    """
    fitted = {step: dict(of_step) for step, of_step in outputs.items()}
    left_out = []
    # The longest values go first, such as reports, so that each step keeps what
    # identifies it.
    values = [
        (_size(value), step, name)
        for step, of_step in outputs.items()
        for name, value in of_step.items()
    ]
    excess = _size(fitted) - MAX_XCOM_BYTES
    for size, step, name in sorted(values, reverse=True):
        if excess <= 0 or size < _LONG_VALUE:
            break
        del fitted[step][name]
        left_out.append(f"{step}.{name}")
        excess -= size

    # Model packages stay before other steps: they are what the next task needs most.
    by_need = sorted(
        fitted, key=lambda step: ("model_package_arn" not in fitted[step], step)
    )
    count = _count_that_fits([_size({step: fitted[step]}) for step in by_need])
    kept = set(by_need[:count])
    for step in outputs:
        if step not in kept:
            del fitted[step]
            left_out.append(step)

    if not left_out:
        return fitted, None
    listed = ", ".join(left_out[:MAX_NAMED])
    if len(left_out) > MAX_NAMED:
        listed += f" and {len(left_out) - MAX_NAMED} more"
    return fitted, f"The XCom outputs lacks what is too long: {listed}."


def _row_of(
    step: StepDescription, declared: DeclaredStep | StepRow | None, execution_arn: str
) -> StepRow:
    kind = STEP_TYPES.get(step.kind or "")
    condition = branch = None
    if declared:
        kind = kind or declared.type
        condition = declared.condition
        branch = declared.branch
    return StepRow(
        **{member: getattr(step, member) for member in _OF_LIST},
        type=kind or step.kind,
        condition=condition,
        branch=branch,
        state=step.state.value,
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
    kind = step.facts
    name = job_name_of(step)
    if kind.page is None or name is None:
        return None
    return console.service_url(execution_arn, kind.service, kind.page.format(name=name))


def _without_links(row: dict[str, Any]) -> dict[str, Any]:
    if row["state"] == PolysyncState.FAILED.value:
        return row
    return {**row, "console_url": None, "log_url": None}


def _without_jobs(row: dict[str, Any]) -> dict[str, Any]:
    if row["state"] == PolysyncState.FAILED.value:
        return row
    return {**row, "job_arn": None, "job_name": None, "reused_from": None}


def _without_empty_members(row: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in row.items() if value or member == "name"}


def _without_long_texts(row: dict[str, Any]) -> dict[str, Any]:
    shortened = {**row, "log_lines": []}
    if row.get("reason"):
        shortened["reason"] = texts.clean_value(row["reason"], _SHORT_REASON)
    return shortened


def _size(value: Any) -> int:
    # Two bytes for the separators around an entry.
    return len(json.dumps(value).encode()) + 2


def _count_that_fits(sizes: Sequence[int], limit: int = MAX_XCOM_BYTES) -> int:
    return bisect_right(list(accumulate(sizes)), limit - 2)
