"""
Selective execution: determines which steps run, and which steps take their results from
a source execution.

The rules are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-selective-ex.html: the
selected steps must be connected, and the steps that they depend on must have succeeded
in an earlier execution of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sagemaker_emulator.engine.definition import Step
from sagemaker_emulator.engine.step_runs import Selection
from sagemaker_emulator.errors import ApiError, invalid
from sagemaker_emulator.sagemaker.calls import Call
from sagemaker_emulator.sagemaker.store import Pipeline, Version


def select(call: Call, pipeline: Pipeline, version: Version) -> Selection | None:
    """
    Return the selection of a StartPipelineExecution request, or None if the request has
    none.

    :param call: the request.
    :param pipeline: the pipeline.
    :param version: the version of the pipeline to run.
    :raises ApiError: ValidationException if the selection breaks a rule,
        ResourceNotFound if the source execution does not exist.
    """
    config = call.request.get("SelectiveExecutionConfig")
    if config is None:
        return None
    steps = version.definition.steps
    selected = frozenset(entry["StepName"] for entry in config["SelectedSteps"])
    unknown = sorted(selected - steps.keys())
    if unknown:
        raise invalid(
            f"SelectedSteps contains steps that are not in the pipeline: {unknown}"
        )
    upstream = {name: _upstream(steps, name) for name in steps}
    for name in selected:
        for between in upstream[name] - selected:
            if upstream[between] & selected:
                raise invalid(
                    f"Step '{between}' is between two selected steps: all steps in all"
                    " paths between two selected steps must be selected."
                )
    reused = frozenset(name for step in selected for name in upstream[step]) - selected
    source = config.get("SourcePipelineExecutionArn")
    if reused:
        if source is None:
            # The words of AWS: https://github.com/aws/sagemaker-python-sdk/issues/4444
            raise invalid(
                "Invalid SourcePipelineExecutionArn: null. The selected steps"
                f" [{', '.join(sorted(selected))}] have dependencies on"
                f" [{', '.join(sorted(reused))}]"
            )
        _check_source(call, pipeline, source, reused)
    return Selection(selected, reused, source)


def _check_source(
    call: Call, pipeline: Pipeline, arn: str, reused: Iterable[str]
) -> None:
    record = call.execution(arn)
    if record.pipeline is not pipeline:
        raise invalid(
            f"Execution '{arn}' does not belong to pipeline '{pipeline.arn}'."
        )
    if record.engine.status not in ("Failed", "Succeeded"):
        raise _source_error(
            arn, f"its status is '{record.engine.status}', neither Failed nor Succeeded"
        )
    for name in sorted(reused):
        run = record.engine.runs.get(name)
        if run is None or run.status != "Succeeded":
            raise _source_error(arn, f"its step '{name}' has not succeeded")


def _source_error(arn: str, reason: str) -> ApiError:
    return invalid(
        f"Execution '{arn}' can't be the source of a selective execution: {reason}."
    )


def _upstream(steps: Mapping[str, Step], name: str) -> set[str]:
    """Return all steps that a step depends on, directly or indirectly."""
    upstream: set[str] = set()
    pending = [name]
    while pending:
        new = steps[pending.pop()].predecessors - upstream
        upstream |= new
        pending += new
    return upstream
