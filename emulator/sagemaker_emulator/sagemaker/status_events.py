"""
Builds the events that SageMaker sends to EventBridge when an execution or a step
changes its status.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html.
AWS does not document the event of a start, which has no previous status here. Nor does
it document whether the start time changes with a retry; here it does not. The events of
model packages are in `server.event_bus`, since moto has them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.calls import ServiceEvent, omit_none
from sagemaker_emulator.sagemaker.step_summaries import cache_hit_result, step_summary
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region, StatusChange

EXECUTION_CHANGE = "SageMaker Model Building Pipeline Execution Status Change"
STEP_CHANGE = "SageMaker Model Building Pipeline Execution Step Status Change"
_ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")


def unsent_events(
    region: Region, record: ExecutionRecord, has_rules: bool
) -> list[ServiceEvent]:
    """
    Return the events of an execution and its steps that were not returned before, in
    the order of times.

    :param region: the region of the execution.
    :param record: the execution, which must have been advanced to the present.
    :param has_rules: whether an event can go anywhere. If not, there is none.
    """
    changes = record.engine.changes[record.sent_changes :]
    record.sent_changes += len(changes)
    if not has_rules:
        return []
    copies = record.engine.scenario.event_copies
    return [_event(region, record, change) for change in changes for _ in range(copies)]


def time_text(time: float) -> str:
    """Return a Unix time as events have it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(
    region: Region, record: ExecutionRecord, change: StatusChange
) -> ServiceEvent:
    if change.run is None:
        detail_type = EXECUTION_CHANGE
        detail = _execution_detail(record, change)
    else:
        detail_type = STEP_CHANGE
        detail = _step_detail(region, record, change, change.run)
    detail["pipelineArn"] = record.pipeline.arn
    detail["pipelineExecutionArn"] = record.arn
    resources = [record.pipeline.arn, record.arn]
    return ServiceEvent(detail_type, resources, detail, change.at)


def _execution_detail(record: ExecutionRecord, change: StatusChange) -> dict[str, Any]:
    return omit_none(
        pipelineExecutionDisplayName=record.shown_display_name,
        pipelineExecutionDescription=record.description,
        currentPipelineExecutionStatus=change.current,
        previousPipelineExecutionStatus=change.previous,
        executionStartTime=time_text(record.engine.created_at),
        executionEndTime=_end_time(change),
    )


def _step_detail(
    region: Region, record: ExecutionRecord, change: StatusChange, run: StepRun
) -> dict[str, Any]:
    failure_reason = None
    if change.current == "Failed":
        failure_reason = run.failure_reason
    metadata = step_summary(region, record, run).get("Metadata")
    return omit_none(
        # A step without metadata has no such member.
        metadata=_camel_case(metadata or None),
        stepStartTime=time_text(run.started_at),
        stepEndTime=_end_time(change),
        stepName=run.step.name,
        stepType=run.step.type,
        previousStepStatus=change.previous,
        currentStepStatus=change.current,
        failureReason=failure_reason,
        cacheHitResult=_camel_case(cache_hit_result(run)),
    )


def _end_time(change: StatusChange) -> str | None:
    if change.current in _ENDED:
        return time_text(change.at)
    return None


def _camel_case(value: Any) -> Any:
    """
    Return metadata with the names of events: ``processingJob`` in place of
    ``ProcessingJob``.
    """
    if isinstance(value, dict):
        return {
            name[:1].lower() + name[1:]: _camel_case(member)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [_camel_case(item) for item in value]
    return value
