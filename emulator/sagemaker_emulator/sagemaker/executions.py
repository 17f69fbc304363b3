"""
The API operations on executions.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
and the related pages. AWS documents neither most of the error messages nor which
executions can be retried, with which definition, and with which start times of the
repeated steps. In the emulator, an execution can be retried if it has ended without
success. It keeps its definition, also if the pipeline has been updated, and a repeated
step has a new start time.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any

from sagemaker_emulator.engine.execution import StateError
from sagemaker_emulator.engine.expressions import ExpressionError, Scope, evaluate, text
from sagemaker_emulator.engine.parameters import ParameterError, resolve
from sagemaker_emulator.engine.step_runs import CacheHit, StepRun
from sagemaker_emulator.errors import conflict, invalid, not_found, quota_exceeded
from sagemaker_emulator.sagemaker.calls import (
    Call,
    Operation,
    omit_none,
    parallelism_configuration,
)
from sagemaker_emulator.sagemaker.jobs.descriptions import Descriptions
from sagemaker_emulator.sagemaker.jobs.model_packages import register_model_packages
from sagemaker_emulator.sagemaker.jobs.requests import refusal
from sagemaker_emulator.sagemaker.jobs.warm_pools import warm_pool_of
from sagemaker_emulator.sagemaker.pagination import page
from sagemaker_emulator.sagemaker.pipelines import created_within
from sagemaker_emulator.sagemaker.role_calls import refusal_of_roles
from sagemaker_emulator.sagemaker.selective_execution import select
from sagemaker_emulator.sagemaker.step_summaries import step_summary
from sagemaker_emulator.sagemaker.store import (
    EndedExecution,
    ExecutionRecord,
    Pipeline,
    RecordedExecution,
    Region,
    search_key,
)
from sagemaker_emulator.sagemaker.validation import conforming, structure

# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
_VALUE_LENGTH = 1024


def start_pipeline_execution(call: Call) -> dict[str, Any]:
    """Start an execution."""
    request = call.request
    region = call.region
    pipeline = region.pipeline(request["PipelineName"])
    if pipeline.is_managed and "RoleArn" not in request:
        raise invalid(
            "RoleArn is required to start an execution of a pipeline that AWS manages."
        )
    if "RoleArn" in request and not pipeline.is_managed:
        raise invalid(
            "RoleArn can't be specified for a pipeline that you created: "
            "its executions use the pipeline's role."
        )
    if "PipelineVersionId" in request and "PipelineVersionAlias" in request:
        raise invalid(
            "Specify either PipelineVersionId or PipelineVersionAlias, not both."
        )
    version = pipeline.version(
        request.get("PipelineVersionId"), request.get("PipelineVersionAlias")
    )
    try:
        values = resolve(version.definition, request.get("PipelineParameters", ()))
    except ParameterError as error:
        raise invalid(str(error)) from error
    _check_quota(call)
    selection = select(call, pipeline, version)
    identifier = region.identifier(12, pipeline.arn, region.started)
    arn = region.execution_arn(pipeline, identifier)
    engine = RecordedExecution(
        seed=region.identifier(12, arn, "engine"),
        definition=version.definition,
        scope=_scope(pipeline, arn, identifier, values, call.now),
        scenario=call.scenario_of(pipeline.name),
        created_at=call.now,
        max_parallel=call.max_parallel or pipeline.max_parallel or inf,
        selection=selection,
        find_cached=partial(_find_cached, pipeline, arn),
    )
    record = ExecutionRecord(
        arn=arn,
        id=identifier,
        order=region.started,
        pipeline=pipeline,
        version=version,
        engine=engine,
        request=request,
        display_name=request.get("PipelineExecutionDisplayName"),
        description=request.get("PipelineExecutionDescription"),
        created_by=call.identity,
    )
    pipeline.executions.set_open(record)
    pipeline.last_run_at = call.now
    version.last_execution_arn = arn
    region.started += 1
    engine.scope.resolve = partial(_property, region, record)
    engine.find_warm_pool = partial(warm_pool_of, region, record)
    region.keeps_instances |= "KeepAlivePeriodInSeconds" in version.definition.text
    checks_values = not (call.limits.lenient or pipeline.is_managed)
    engine.refusal = partial(_refusal_of_start, region, record, checks_values)
    engine.refusal_of_stop = partial(refusal_of_roles, region, record, "stop")
    return {"PipelineExecutionArn": arn}


def _refusal_of_start(
    region: Region, record: ExecutionRecord, checks_values: bool, run: StepRun
) -> str | None:
    """Return why AWS refuses to start a step; None if it does not."""
    reason = refusal_of_roles(region, record, "start", run)
    if reason is None and checks_values:
        reason = refusal(region, record, run)
    return reason


def _property(region: Region, record: ExecutionRecord, reference: str) -> Any:
    """Return the value of a step's property in an execution."""
    descriptions = Descriptions(region, record, record.engine.last_modified)
    return descriptions.property(reference)


def _check_quota(call: Call) -> None:
    """Check that the account may start another execution in the region."""
    running = 0
    for record in call.region.open_executions():
        record.engine.advance(call.now)
        running += not record.has_ended
    if running >= call.limits.max_executions:
        raise quota_exceeded(
            "concurrent pipeline executions",
            "Executions",
            call.limits.max_executions,
            running,
        )


def _find_cached(
    pipeline: Pipeline,
    arn: str,
    step_name: str,
    key: str,
    earliest: float,
    latest: float,
) -> CacheHit | None:
    """
    Return the most recent successful run with a cache key; None if there is none.

    :param pipeline: the pipeline.
    :param arn: the ARN of the execution that looks for it. Only the executions before
        it are searched.
    :param step_name: the name of the step.
    :param key: the cache key.
    :param earliest: the earliest time at which the run may have ended, as Unix time.
    :param latest: the latest time at which it may have ended.
    """
    most_recent: CacheHit | None = None
    most_recent_end = (earliest, 0)
    executions = pipeline.executions
    for record in executions.using(search_key(step_name, key), before=arn):
        engine = record.engine
        engine.advance(latest)
        if record.arn not in executions.open and engine.last_modified < earliest:
            break
        for run in engine.history:
            if run.step.name != step_name or run.cache_key != key:
                continue
            if run.status != "Succeeded" or run.ended_at is None:
                continue
            # A run without an attempt has reused the results of another one.
            end = (run.ended_at, record.order)
            if run.attempts and end >= most_recent_end and run.ended_at <= latest:
                outputs = engine.scope.outputs.get(step_name, {})
                most_recent = CacheHit(record.arn, engine.seed, run, outputs)
                most_recent_end = end
                earliest = run.ended_at
    return most_recent


def _scope(
    pipeline: Pipeline, arn: str, identifier: str, values: dict[str, Any], now: float
) -> Scope:
    start = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    execution_variables = {
        "PipelineName": pipeline.name,
        "PipelineArn": pipeline.arn,
        "PipelineExecutionId": identifier,
        "PipelineExecutionArn": arn,
        "StartDateTime": start,
        "CurrentDateTime": start,
    }
    return Scope(parameters=values, execution=execution_variables)


def stop_pipeline_execution(call: Call) -> dict[str, Any]:
    """
    Request the stop of an execution. It is rejected unless the status is Executing.
    """
    record = call.execution(call.request["PipelineExecutionArn"])
    try:
        record.engine.stop(call.now)
    except StateError as error:
        raise invalid(str(error)) from error
    return {"PipelineExecutionArn": record.arn}


def retry_pipeline_execution(call: Call) -> dict[str, Any]:
    """Run the steps that have not succeeded again, in the same execution."""
    record = call.region.reopen(call.request["PipelineExecutionArn"])
    # The limit that the start had does not apply:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html
    limit = call.max_parallel or record.pipeline.max_parallel or inf
    try:
        record.engine.retry(call.now, call.scenario_of(record.pipeline.name), limit)
    except StateError as error:
        raise invalid(str(error)) from error
    return {"PipelineExecutionArn": record.arn}


def update_pipeline_execution(call: Call) -> dict[str, Any]:
    """Change the display name, the description or the parallelism of an execution."""
    request = call.request
    record = call.region.reopen(request["PipelineExecutionArn"])
    record.display_name = request.get(
        "PipelineExecutionDisplayName", record.display_name
    )
    record.description = request.get("PipelineExecutionDescription", record.description)
    record.engine.set_max_parallel(
        call.now, call.max_parallel or record.engine.max_parallel
    )
    return {"PipelineExecutionArn": record.arn}


def describe_pipeline_execution(call: Call) -> dict[str, Any]:
    """Return the details of an execution."""
    record = call.execution(call.request["PipelineExecutionArn"])
    return execution_details(record, call.now)


def execution_details(record: ExecutionRecord, now: float) -> dict[str, Any]:
    """
    Return the members of DescribePipelineExecution.

    :param record: the execution, which must have been advanced to the present.
    :param now: the time, as Unix time.
    """
    engine = record.engine
    created_by: dict[str, Any] = {}
    if record.created_by:
        created_by = {"IamIdentity": dict(record.created_by)}
    role_arn = None
    if record.pipeline.is_managed:
        role_arn = record.role_arn
    return omit_none(
        PipelineArn=record.pipeline.arn,
        PipelineExecutionArn=record.arn,
        PipelineExecutionDisplayName=record.shown_display_name,
        PipelineExecutionStatus=engine.shown_status(now),
        PipelineExecutionDescription=record.description,
        PipelineExperimentConfig=_experiment(record),
        FailureReason=engine.failure_reason,
        CreationTime=engine.created_at,
        LastModifiedTime=engine.last_modified,
        CreatedBy=created_by,
        LastModifiedBy={},
        ParallelismConfiguration=parallelism_configuration(engine.max_parallel),
        SelectiveExecutionConfig=record.request.get("SelectiveExecutionConfig"),
        PipelineVersionId=record.version.id,
        PipelineVersionAliases=sorted(record.version.aliases) or None,
        MLflowConfig=_mlflow(record),
        RoleArn=role_arn,
    )


def _mlflow(record: ExecutionRecord) -> dict[str, str] | None:
    """
    Return the experiment that the start of an execution names; None if it names none.

    It is in the default app of the account.
    """
    name = record.request.get("MlflowExperimentName")
    if name is None:
        return None
    account = record.arn.partition(":pipeline/")[0]
    return {
        "MlflowResourceArn": f"{account}:mlflow-app/app-default",
        "MlflowExperimentName": name,
    }


def describe_pipeline_definition_for_execution(call: Call) -> dict[str, Any]:
    """
    Return the definition that an execution uses, even if the pipeline has changed since
    its start.
    """
    record = call.execution(call.request["PipelineExecutionArn"])
    return {
        "PipelineDefinition": record.version.definition.text,
        "CreationTime": record.version.created_at,
    }


def list_pipeline_executions(call: Call) -> dict[str, Any]:
    """List the executions of a pipeline."""
    request = call.request
    pipeline = call.region.pipeline(request["PipelineName"])
    alias = request.get("PipelineVersionAlias")
    version = None
    if alias:
        version = pipeline.version(alias=alias)
    matching = [
        entry
        for entry in pipeline.executions.entries()
        if created_within(entry.created_at, request)
        and (version is None or version is entry.version)
    ]

    def sort_key(entry: ExecutionRecord | EndedExecution) -> tuple[Any, ...]:
        if request.get("SortBy") == "PipelineExecutionArn":
            return (entry.arn,)
        return (entry.created_at, entry.arn)

    entries, token = page(matching, sort_key, request)
    summaries = [_summary(call.execution(entry.arn), call.now) for entry in entries]
    return {"PipelineExecutionSummaries": summaries, **token}


def list_pipeline_execution_steps(call: Call) -> dict[str, Any]:
    """
    List the steps that have started. The steps of a branch that was not selected never
    appear.
    """
    arn = call.request.get("PipelineExecutionArn")
    if arn is None:
        raise invalid("PipelineExecutionArn is required.")
    record = call.execution(arn)
    if any(run.step.type == "RegisterModel" for run in record.engine.runs.values()):
        # The version of a model package depends on what other executions have created
        # before.
        call.region.advance(call.now)
        register_model_packages(call.region, call.services)
    runs, token = page(
        record.engine.runs.values(), lambda run: (run.order,), call.request
    )
    summaries = [step_summary(call.region, record, run) for run in runs]
    return {"PipelineExecutionSteps": summaries, **token}


def list_pipeline_parameters_for_execution(call: Call) -> dict[str, Any]:
    """
    List the values of all parameters, including defaults, in the order of the
    definition.
    """
    record = call.execution(call.request["PipelineExecutionArn"])
    numbered = enumerate(execution_parameters(record))
    in_order = {"SortOrder": "Ascending", **call.request}
    parameters, token = page(numbered, lambda parameter: (parameter[0],), in_order)
    return {"PipelineParameters": [entry for _, entry in parameters], **token}


def execution_parameters(record: ExecutionRecord) -> list[dict[str, str]]:
    """
    Return the values of all parameters of an execution, in the order of the definition.
    """
    # A default can be longer than the values in a response.
    values = {
        name: text(value)[:_VALUE_LENGTH]
        for name, value in record.engine.scope.parameters.items()
    }
    # AWS shows a value as it was sent, such as "True" or "1e-3".
    values |= {
        entry["Name"]: entry["Value"]
        for entry in record.request.get("PipelineParameters", ())
    }
    return [{"Name": name, "Value": value} for name, value in values.items()]


def send_pipeline_execution_step_success(call: Call) -> dict[str, Any]:
    """End a callback step with success."""
    outputs = {
        entry["Name"]: entry["Value"]
        for entry in call.request.get("OutputParameters", ())
    }
    token = call.request["CallbackToken"]
    record = _execution_with_callback(call, token)
    try:
        record.engine.succeed_callback(call.now, token, outputs)
    except StateError as error:
        raise conflict(str(error)) from error
    return {"PipelineExecutionArn": record.arn}


def send_pipeline_execution_step_failure(call: Call) -> dict[str, Any]:
    """End a callback step with a failure."""
    reason = call.request.get("FailureReason")
    token = call.request["CallbackToken"]
    record = _execution_with_callback(call, token)
    try:
        record.engine.fail_callback(call.now, token, reason)
    except StateError as error:
        raise conflict(str(error)) from error
    return {"PipelineExecutionArn": record.arn}


def _execution_with_callback(call: Call, token: str) -> ExecutionRecord:
    record = call.region.execution_with_token(token, call.now)
    if record is None:
        raise not_found(f"Callback token '{token}' does not exist.")
    return record


def _experiment(record: ExecutionRecord) -> Any:
    config = record.version.definition.document.get("PipelineExperimentConfig")
    if not isinstance(config, dict):
        return None
    names: dict[str, str] = {}
    for member, value in config.items():
        with suppress(ExpressionError):
            names[member] = text(evaluate(value, record.engine.scope))
    # The name of a pipeline can be longer than the name of an experiment, and the value
    # of a parameter can be no name.
    return conforming(structure("PipelineExperimentConfig"), names) or None


def _summary(record: ExecutionRecord, now: float) -> dict[str, Any]:
    return omit_none(
        PipelineExecutionArn=record.arn,
        StartTime=record.engine.created_at,
        PipelineExecutionStatus=record.engine.shown_status(now),
        PipelineExecutionDescription=record.description,
        PipelineExecutionDisplayName=record.shown_display_name,
        PipelineExecutionFailureReason=record.engine.failure_reason,
        PipelineVersionAliases=sorted(record.version.aliases) or None,
    )


OPERATIONS: Mapping[str, Operation] = {
    "StartPipelineExecution": start_pipeline_execution,
    "StopPipelineExecution": stop_pipeline_execution,
    "RetryPipelineExecution": retry_pipeline_execution,
    "UpdatePipelineExecution": update_pipeline_execution,
    "DescribePipelineExecution": describe_pipeline_execution,
    "DescribePipelineDefinitionForExecution": (
        describe_pipeline_definition_for_execution
    ),
    "ListPipelineExecutions": list_pipeline_executions,
    "ListPipelineExecutionSteps": list_pipeline_execution_steps,
    "ListPipelineParametersForExecution": list_pipeline_parameters_for_execution,
    "SendPipelineExecutionStepSuccess": send_pipeline_execution_step_success,
    "SendPipelineExecutionStepFailure": send_pipeline_execution_step_failure,
}
