"""What a Start task reports: XComs, asset events, and the error that fails or skips it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow import exceptions, links
from polysync_airflow.airflow_compat.sdk import AirflowSkipException
from polysync_airflow.airflow_compat.task_instances import outlet_event_extras
from polysync_airflow.execution import outcome
from polysync_airflow.execution.console import execution_url, studio_url
from polysync_airflow.execution.lifecycle.decisions import OnCompletedWithFailures
from polysync_airflow.execution.models import ExecutionDescription, ExecutionEvent, pipeline_name_from_arn
from polysync_airflow.execution.parameters import Choices
from polysync_airflow.execution.texts import clean_text, first_problems, storable
from polysync_airflow.states import STATUS_COMPLETED_WITH_FAILURES, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.execution.lifecycle.instructions import Instruction
    from polysync_airflow.hooks import PolysyncSageMakerHook

log = logging.getLogger(__name__)


def push_links(
    context: Context, hook: PolysyncSageMakerHook, execution_arn: str, pipeline_name: str, task_log: Any
) -> None:
    """
    Push ``console_url`` and ``studio_url``, the links to an execution.

    :param hook: a hook with the task's connection, which may name the domain of Studio.
    :param pipeline_name: the name or ARN of the pipeline.
    """
    console = execution_url(execution_arn, pipeline_name)
    links.push_url(context["ti"], links.CONSOLE_URL_XCOM_KEY, console, links.PolysyncPipelineExecutionLink())
    domain_id = hook.credentials.studio_domain_id if hook.credentials else None
    studio = studio_url(execution_arn, pipeline_name, domain_id)
    if studio:
        links.push_url(context["ti"], links.STUDIO_URL_XCOM_KEY, studio, links.PolysyncStudioLink())
    # Lines of their own: Airflow's log pane shows about 100 characters of a line.
    task_log.info("Execution: %s", execution_arn)
    for name, url in (("Console", console), ("Studio", studio)):
        if url:
            task_log.info("%s: %s", name, url)


def push_started(
    context: Context,
    hook: PolysyncSageMakerHook,
    now: Instruction,
    parameters: Mapping[str, str],
    task_log: Any,
) -> outcome.ExecutionRecord:
    """
    Push ``execution_arn``, the links, ``state`` and ``run`` as soon as the execution exists.

    :param hook: a hook with the task's connection.
    :param now: what is known of the execution, which an earlier try may have started.
    :param parameters: its parameters.
    :return: the XCom ``run``.
    """
    ti, record = context["ti"], now.known
    request = record.request
    ti.xcom_push("execution_arn", record.arn)
    push_links(context, hook, record.arn, request.pipeline_name, task_log)
    if parameters:
        task_log.info("Parameters: %s", clean_text(json.dumps(dict(parameters))))
    if request.selected_steps:
        task_log.info("Selected steps: %s", clean_text(", ".join(request.selected_steps)))
        task_log.info("The steps that they need are those of: %s", request.source_execution or "no execution")
    run = outcome.ExecutionRecord(
        execution_arn=record.arn,
        pipeline_name=request.pipeline_name,
        state=PolysyncState.RUNNING.value,
        started_at=now.started_at,
        attempt_started_at=record.resumed_at,
        parameters=parameters,
        resumes=record.resumes,
        selected_steps=request.selected_steps or (),
        source_execution=request.source_execution,
        mlflow_experiment_name=request.mlflow_experiment_name,
    )
    push_run(context, run)
    return run


def push_described(
    context: Context,
    description: ExecutionDescription,
    *,
    pipeline_name: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> None:
    """
    Push ``state`` and ``run`` of an execution that the task has not started.

    :param pipeline_name: the name of its pipeline; None for that in its ARN.
    :param parameters: its parameters; None if they are not known.
    """
    ended = has_ended(description.status)
    run = outcome.ExecutionRecord(
        execution_arn=description.execution_arn,
        pipeline_name=pipeline_name or pipeline_name_from_arn(description.execution_arn),
        state=state_of(description.status).value,
        status=description.status,
        message=description.failure_reason,
        started_at=description.created_at,
        ended_at=description.modified_at if ended else None,
        parameters=parameters or {},
    )
    push_run(context, run)


def push_ended(
    context: Context,
    end: ExecutionEvent,
    failed_steps: Sequence[outcome.FailedStep] = (),
    billed: Mapping[str, float] | None = None,
    steps_note: str | None = None,
    mlflow_resource_arn: str | None = None,
    *,
    started: outcome.ExecutionRecord | None = None,
) -> outcome.ExecutionRecord:
    """
    Push ``state`` and ``run`` again when the wait has ended.

    :param billed: the seconds for which AWS bills, by the type of instance; None if they are not known.
    :param steps_note: what the XComs ``steps`` and ``outputs`` lack, and why.
    :param mlflow_resource_arn: the ARN of the MLflow app or tracking server; None if it is not known.
    :param started: the XCom ``run``, if it was read; None to read it.
    :return: the XCom ``run``.
    """
    # What was sent at the start: the templates may render to other values now, for example if they use the
    # current time.
    started = started or pull_run(context)
    if started is None or started.execution_arn != end.execution_arn:
        started = outcome.ExecutionRecord(
            execution_arn=end.execution_arn,
            pipeline_name="",
            state=PolysyncState.UNKNOWN.value,
            parameters={},
        )
    changes = {
        "failed_steps": list(failed_steps),
        "billable_seconds": None if billed is None else round(sum(billed.values()), 1),
        "billable_seconds_by_instance_type": billed or {},
        "steps_note": steps_note,
        "mlflow_resource_arn": mlflow_resource_arn,
    }
    run = started.ended(end).model_copy(update=changes)
    push_run(context, run)
    return run


def pull_own(context: Context, key: str) -> Any:
    """Return an XCom of this task instance; None if there is none."""
    ti = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


def pull_run(context: Context) -> outcome.ExecutionRecord | None:
    """
    Return this task's XCom ``run``; None if there is none, or if somebody has changed it to something else.
    """
    return outcome.parse_run(pull_own(context, "run"), log.warning)


def push_run(context: Context, run: outcome.ExecutionRecord) -> None:
    """Push ``state`` and ``run``."""
    context["ti"].xcom_push("state", run.state)
    context["ti"].xcom_push("run", storable_xcom("run", run.model_dump(mode="json")))


def storable_xcom(key: str, value: Any) -> Any:
    """Return an XCom that Airflow can store, and log one warning about what differs from the given value."""
    changes: list[str] = []
    value = storable(value, changes)
    if changes:
        lines = "\n".join(f"- {line}" for line in first_problems(changes))
        log.warning("Airflow cannot store the XCom %s as it is:\n%s", key, lines)
    return value


class OutcomeChoices(Choices):
    """What the DAG author chose about outcomes; see the arguments of the operator."""

    on_completed_with_failures: OnCompletedWithFailures
    on_cancelled: outcome.OnCancelled


def error_of(
    end: ExecutionEvent, message: str, choices: OutcomeChoices, *, is_own_stop: bool
) -> Exception | None:
    """
    Return the error that fails or skips the task; None if the task succeeds.

    :param is_own_stop: whether this try stopped the execution because its process was killed.
    """
    details: dict[str, Any] = {"execution_arn": end.execution_arn, "status": end.status}
    if end.outcome == "refused":
        return outcome.refusal_error(end, message)
    if end.outcome == "timed_out":
        return exceptions.PipelineExecutionTimeoutError(message, **details)
    state = state_of(end.status)
    if state is PolysyncState.CANCELLED:
        # A stop of our own is no decision of a user to cancel the execution, so the task's retries apply.
        on_cancelled = "retry" if is_own_stop else choices.on_cancelled
        if on_cancelled == "skip":
            return AirflowSkipException(message)
        retry = on_cancelled == "retry"
        error = (
            exceptions.PipelineExecutionCancelledError
            if retry
            else exceptions.PipelineExecutionCancelledFailError
        )
        return error(message, **details)
    has_some_failures = end.status == STATUS_COMPLETED_WITH_FAILURES
    if state is PolysyncState.SUCCESS or (
        has_some_failures and choices.on_completed_with_failures == "succeed"
    ):
        return None
    return exceptions.PipelineExecutionFailedError(message, **details)


def raise_unless_ended(end: ExecutionEvent) -> None:
    """Raise an error if the execution of an earlier try may still be running."""
    if end.outcome == "ended":
        return
    note = "This is the execution of an earlier try. No new execution was started beside it."
    message = outcome.outcome_message(end, notes=(note,))
    if end.outcome == "refused":
        raise outcome.refusal_error(end, message)
    raise exceptions.PipelineExecutionTimeoutError(
        message, execution_arn=end.execution_arn, status=end.status
    )


MAX_MODEL_PACKAGES: Final = 100
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ModelPackageSummary.html
_MODEL_PACKAGE_ARN: Final = re.compile(
    r"arn:aws[a-z-]{0,20}:sagemaker:[a-z0-9-]{1,32}:[0-9]{12}:model-package/[!-~]{1,2048}"
)


def execution_extra(
    execution_arn: str, pipeline_name: str | None, *, model_package_arns: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return what an asset event says about an execution: ``execution_arn``, ``console_url`` and
    ``model_package_arns``. Members without a value are left out.

    :param pipeline_name: name or ARN of its pipeline; None if it is not known.
    :param model_package_arns: the model packages that the execution registered, at most 100. What is not
        the ARN of a model package is left out.
    """
    arns = dict.fromkeys(
        arn for arn in model_package_arns if isinstance(arn, str) and _MODEL_PACKAGE_ARN.fullmatch(arn)
    )
    extra = {
        "execution_arn": execution_arn,
        "console_url": execution_url(execution_arn, pipeline_name) if pipeline_name else None,
        # Stored as a JSON list. Airflow 2 fails a task if the extra of an alias holds a list, which cannot be
        # hashed.
        "model_package_arns": tuple(arns)[:MAX_MODEL_PACKAGES],
    }
    return {name: value for name, value in extra.items() if value}


def attach_to_outlets(context: Context, outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """
    Add an extra to the asset events of a task. Raises no error: the execution has been paid.

    :param extra: JSON-able values by name; other members that the extra has already are kept.
    """
    for outlet in outlets:
        try:
            for event_extra in outlet_event_extras(context, outlet):
                event_extra.update(extra)
        except Exception as error:
            # For example, Airflow does not know the asset to which an Asset.ref() refers.
            log.warning("The asset event of outlet %.200r does not name the execution: %s", outlet, error)
