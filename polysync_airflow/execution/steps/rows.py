"""
The XComs ``steps`` and ``outputs``, which are made of AWS's descriptions of the steps.

Everything here is pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from polysync_airflow.execution import console
from polysync_airflow.execution.models import ExecutionArn, FrozenModel, UtcTime
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.execution.texts import ArnText, Count, LineText, NameText, ReasonText, clean_value
from polysync_airflow.states import PolysyncState, state_of_step

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
MAX_ROWS: Final = 2000
_SHORT_REASON: Final = 200
# Of the outputs of a step, in bytes.
_LONG_VALUE: Final = 512
MAX_NAMED: Final = 5


class StepRow(FrozenModel):
    """
    An entry of the XCom ``steps``. In JSON, times are ISO 8601 in UTC.

    :param condition: the Condition step in whose branch it is; None if it is in none.
    :param branch: the outcome with which this branch is taken: ``True`` or ``False``.
    :param not_taken: whether the condition had the other outcome.
    :param not_selected: whether a selective execution leaves it out: it neither runs it nor takes its result.
    :param reused_from: the ARN of the execution from which its result was taken; None if it has run.
    """

    name: NameText
    type: NameText | None = None
    condition: NameText | None = None
    branch: NameText | None = None
    not_taken: bool = False
    not_selected: bool = False
    state: NameText
    status: NameText | None = None
    started_at: UtcTime | None = None
    ended_at: UtcTime | None = None
    seconds: float | None = None
    attempt: Count = None
    cache_hit: bool = False
    reused_from: ArnText | None = None
    reason: ReasonText | None = None
    job_arn: ArnText | None = None
    job_name: NameText | None = None
    console_url: ArnText | None = None
    log_url: ArnText | None = None
    log_lines: Sequence[LineText] = ()


# Built on first use, which is on a worker: Airflow parses a DAG file every 30 seconds.
_ROWS: Final = TypeAdapter(
    Annotated[list[StepRow], Field(max_length=MAX_ROWS)], config=ConfigDict(defer_build=True)
)


def parse_rows(value: Any) -> list[StepRow]:
    """Return the rows of an XCom ``steps``; none if there is no such XCom, or if somebody has changed it."""
    try:
        return _ROWS.validate_python(value or [])
    except ValidationError:
        return []


def order_text(steps: Sequence[DeclaredStep | StepRow]) -> str:
    """Return what a definition says of each step in the XCom ``steps``, in its order, for ``order_of``."""
    return json.dumps(
        [(step.name, step.type, step.condition, step.branch, step.not_selected) for step in steps]
    )


def order_of(text: str) -> list[DeclaredStep]:
    """Return the steps of which ``order_text`` has made a text."""
    return [
        DeclaredStep(name, kind, condition, branch, not_selected=not_selected)
        for name, kind, condition, branch, not_selected in json.loads(text)
    ]


def rows_of(
    steps: Sequence[descriptions.StepDescription],
    order: Sequence[DeclaredStep | StepRow],
    execution_arn: ExecutionArn,
) -> list[StepRow]:
    """
    Return the rows of the XCom ``steps``: the steps that AWS has begun, and those that it has not.

    :param order: the steps in the order of the definition, or the rows before. Steps that are not in it
        follow in the order in which AWS began them.
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
                name=declared.name,
                type=declared.type,
                condition=declared.condition,
                branch=declared.branch,
                not_taken=declared.name in not_taken,
                not_selected=declared.not_selected,
                state=NOT_STARTED,
            )
        )
    # Those that have not begun have no time; they come last.
    others = sorted(by_name.values(), key=lambda step: (not step.started_at, step.started_at, step.name))
    return rows + [_row_of(step, None, execution_arn) for step in others]


def outputs_by_step(steps: Sequence[descriptions.StepDescription]) -> dict[str, dict[str, Any]]:
    """Return the XCom ``outputs``: what each step made, by the name of the step."""
    outputs = {}
    for step in sorted(steps, key=lambda step: step.name):
        if (
            step.kind
            and step.metadata
            and (made := descriptions.outputs_of(step.kind, step.metadata[step.kind]))
        ):
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
    """Return rows as JSON of at most ``MAX_XCOM_BYTES``, and a note if something had to be left out."""
    fitted = _ROWS.dump_python(list(rows[:MAX_ROWS]), mode="json")
    for shorten in (_without_links, _without_jobs, _without_empty_members, _without_long_texts):
        if _size(fitted) <= MAX_XCOM_BYTES:
            break
        fitted = [shorten(row) for row in fitted]
    else:
        fitted = fitted[: _count_that_fits([_size(row) for row in fitted])]
    if len(fitted) == len(rows):
        return fitted, None
    return fitted, f"The XCom steps has the first {len(fitted)} of {len(rows)} steps: the rest is too long."


def fit_outputs(outputs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """Return outputs of at most ``MAX_XCOM_BYTES`` as JSON, and a note if something had to be left out."""
    fitted = {step: dict(made) for step, made in outputs.items()}
    # The longest values first, such as reports, so that each step keeps what identifies it.
    values = [(_size(value), step, name) for step, made in outputs.items() for name, value in made.items()]
    left_out = []
    excess = _size(fitted) - MAX_XCOM_BYTES
    for size, step, name in sorted(values, reverse=True):
        if excess <= 0 or size < _LONG_VALUE:
            break
        del fitted[step][name]
        left_out.append(f"{step}.{name}")
        excess -= size
    fitted = _steps_that_fit(fitted)
    left_out += [step for step in outputs if step not in fitted]
    if not left_out:
        return fitted, None
    more = f" and {len(left_out) - MAX_NAMED} more" if len(left_out) > MAX_NAMED else ""
    return fitted, f"The XCom outputs lacks what is too long: {', '.join(left_out[:MAX_NAMED])}{more}."


def _steps_that_fit(outputs: dict[str, Any]) -> dict[str, Any]:
    # Model packages first: they are what the next task needs most.
    names = sorted(outputs, key=lambda name: ("model_package_arn" not in outputs[name], name))
    kept = set(names[: _count_that_fits([_size({name: outputs[name]}) for name in names])])
    return {name: made for name, made in outputs.items() if name in kept}


def _row_of(
    step: descriptions.StepDescription, declared: DeclaredStep | StepRow | None, execution_arn: str
) -> StepRow:
    kind = descriptions.STEP_KINDS.get(step.kind or "")
    name = descriptions.job_name_of(step)
    return StepRow(
        name=step.name,
        type=kind.type if kind else (declared and declared.type) or step.kind,
        condition=declared and declared.condition,
        branch=declared and declared.branch,
        state=state_of_step(step.status).value,
        status=step.status,
        started_at=step.started_at,
        ended_at=step.ended_at,
        seconds=step.seconds,
        attempt=step.attempt_count,
        cache_hit=step.cache_hit,
        reused_from=step.reused_from,
        reason=step.failure_reason,
        job_arn=step.job_arn,
        job_name=name,
        console_url=_job_url(kind, name, execution_arn),
        log_url=log_url_of(step, execution_arn),
    )


def log_url_of(step: descriptions.StepDescription, execution_arn: str) -> str | None:
    """Return the URL of a step's log in the console; None if it has none."""
    source = descriptions.log_source(step)
    if source:
        return console.log_url(execution_arn, *source)
    # EMR and EMR Serverless write their logs to S3.
    path = step.metadata[step.kind].get("LogFilePath") if step.metadata and step.kind else None
    return console.bucket_url(execution_arn, path) if isinstance(path, str) else None


def _job_url(kind: descriptions.StepKind | None, name: str | None, execution_arn: str) -> str | None:
    if kind is None or kind.console is None or name is None:
        return None
    service, page = kind.console
    return console.service_url(execution_arn, service, page.format(name=name))


def _without_links(row: dict[str, Any]) -> dict[str, Any]:
    return row if _has_failed(row) else {**row, "console_url": None, "log_url": None}


def _without_jobs(row: dict[str, Any]) -> dict[str, Any]:
    return row if _has_failed(row) else {**row, "job_arn": None, "job_name": None, "reused_from": None}


def _has_failed(row: dict[str, Any]) -> bool:
    return bool(row["state"] == PolysyncState.FAILED.value)


def _without_empty_members(row: dict[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in row.items() if value or member == "name"}


def _without_long_texts(row: dict[str, Any]) -> dict[str, Any]:
    reason = row.get("reason")
    shortened = {"reason": clean_value(reason, _SHORT_REASON)} if reason else {}
    return {**row, "log_lines": [], **shortened}


def _size(value: Any) -> int:
    # Two bytes for the separators around an entry.
    return len(json.dumps(value).encode()) + 2


def _count_that_fits(sizes: Sequence[int], limit: int = MAX_XCOM_BYTES) -> int:
    total = count = 0
    for size in sizes:
        total += size
        if total > limit - 2:
            break
        count += 1
    return count
