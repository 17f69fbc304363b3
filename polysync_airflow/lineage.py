"""
What OpenLineage is told about an execution: the facets and datasets of an execution in
the classes of OpenLineage.

Only functions import this module, because OpenLineage is an optional package. Its size
is limited, whatever AWS or the XComs contain. Airflow's OpenLineage provider masks
secrets in events as Airflow does in logs: registered values, and the values of
parameters with names such as ``password``. No value is cut before: the rest of a secret
would not be masked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from attrs import define
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import JobFacet, RunFacet

from polysync_airflow import __version__
from polysync_airflow.execution import clock, console, models, outcome, texts
from polysync_airflow.execution.datasets import Datasets

# Custom facets have a prefix: https://openlineage.io/docs/spec/facets/custom-facets
JOB_FACET: Final = "polysync_sagemakerPipeline"
RUN_FACET: Final = "polysync_sagemakerExecution"
# A package URL, which is a URI.
PRODUCER: Final = f"pkg:pypi/polysync-airflow@{__version__}"
# As many as AWS allows:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
MAX_PARAMETERS: Final = 200
MAX_FAILED_STEPS: Final = 20


@define
class SageMakerPipelineJobFacet(JobFacet):
    """
    The pipeline that a task starts.

    :param region: the AWS region; None if only the connection has it, and no execution
        has started.
    """

    pipelineName: str
    region: str | None


@define
class SageMakerExecutionRunFacet(RunFacet):
    """
    The execution of a task: the members of the XCom ``run``. Times are ISO 8601 in UTC.

    :param parameters: what was sent to AWS; at the start of the task, what will be
        sent.
    :param parametersLeftOut: how many more parameters there are.
    :param message: AWS's reason of a failure.
    :param failedSteps: name and reason of each.
    :param datasetsLeftOut: how many more inputs and outputs there are.
    """

    parameters: dict[str, str]
    parametersLeftOut: int | None = None
    executionArn: str | None = None
    consoleUrl: str | None = None
    state: str | None = None
    status: str | None = None
    message: str | None = None
    failedSteps: list[dict[str, str | None]] | None = None
    startedAt: str | None = None
    endedAt: str | None = None
    seconds: float | None = None
    billableSeconds: float | None = None
    resumes: int | None = None
    datasetsLeftOut: int | None = None


def before_start(
    pipeline_name: Any, region: Any, parameters: Any
) -> OperatorLineage[Any, Any]:
    """
    Return what is known of an execution before its start.

    :param pipeline_name: name or ARN of the pipeline; empty if the task has yet to make
        it. As the other arguments, it is not yet checked.
    :param region: the AWS region; None for that of the connection.
    """
    facet = SageMakerExecutionRunFacet(**_parameters(parameters), producer=PRODUCER)
    job_facets = {}
    if pipeline_name != "":
        job_facets[JOB_FACET] = _pipeline(str(pipeline_name), region)
    return OperatorLineage(job_facets=job_facets, run_facets={RUN_FACET: facet})


def of_execution(
    run: outcome.RunSummary,
    datasets: Datasets | None,
    *,
    inlets: Iterable[Any] = (),
    outlets: Iterable[Any] = (),
) -> OperatorLineage[Any, Any]:
    """
    Return what is known of an execution.

    :param run: the XCom ``run``.
    :param datasets: what the steps have read and written; None while they run.
    :param inlets: the task's own inlets. The provider adds them only if the operator
        returns no dataset.
    :param outlets: the task's own outlets, likewise.
    """
    datasets = datasets or Datasets()
    facet = SageMakerExecutionRunFacet(
        **_parameters(run.parameters),
        executionArn=run.execution_arn,
        consoleUrl=console.execution_url(run.execution_arn, run.pipeline_name),
        state=run.state,
        status=run.status,
        message=_reason(run.message),
        failedSteps=[
            {"name": texts.clean_line(step.name, 256), "reason": _reason(step.reason)}
            for step in run.failed_steps[:MAX_FAILED_STEPS]
        ],
        startedAt=clock.iso_text(run.started_at),
        endedAt=clock.iso_text(run.ended_at),
        seconds=run.seconds,
        billableSeconds=run.billable_seconds,
        resumes=run.resumes,
        datasetsLeftOut=datasets.left_out or None,
        producer=PRODUCER,
    )
    inputs = [InputDataset(*dataset) for dataset in datasets.inputs]
    outputs = [OutputDataset(*dataset) for dataset in datasets.outputs]
    if inputs or outputs:
        inputs += _beside(inputs, inlets)
        outputs += _beside(outputs, outlets)
    return OperatorLineage(
        inputs=inputs,
        outputs=outputs,
        job_facets={
            JOB_FACET: _pipeline(
                run.pipeline_name, models.region_from_arn(run.execution_arn)
            )
        },
        run_facets={RUN_FACET: facet},
    )


def _beside(datasets: Iterable[Dataset], assets: Iterable[Any]) -> Iterator[Any]:
    names = {(dataset.namespace, dataset.name) for dataset in datasets}
    for asset in assets:
        dataset = ExtractorManager.convert_to_ol_dataset(asset)
        if dataset and (dataset.namespace, dataset.name) not in names:
            yield dataset


def _pipeline(pipeline_name: str, region: Any) -> SageMakerPipelineJobFacet:
    name = texts.clean_line(models.pipeline_name_of(pipeline_name), 256)
    if region is not None:
        region = texts.clean_line(str(region), 64)
    return SageMakerPipelineJobFacet(
        pipelineName=name, region=region, producer=PRODUCER
    )


def _parameters(parameters: Any) -> dict[str, Any]:
    """
    Return the members of the run facet about parameters, without those that AWS would
    not accept.
    """
    if not isinstance(parameters, Mapping):
        parameters = {}
    kept: dict[str, str] = {}
    for name, value in parameters.items():
        if len(kept) == MAX_PARAMETERS:
            break
        text = ""
        if isinstance(value, (str, bool, int, float)):
            text = str(value)
        if 0 < len(text) <= texts.MAX_VALUE_LENGTH:
            kept[str(name)] = texts.clean_value(text, texts.MAX_VALUE_LENGTH)
    return {
        "parameters": {
            texts.clean_line(name, 256): value for name, value in kept.items()
        },
        "parametersLeftOut": len(parameters) - len(kept) or None,
    }


def _reason(text: str | None) -> str | None:
    if text is None:
        return None
    return texts.clean_value(text, texts.MAX_REASON_LENGTH)
