"""The methods of the hook for pipelines, and for the jobs of their steps: one for each AWS operation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from polysync_airflow.aws.error_mapping import invalid_response_error
from polysync_airflow.aws.response_limits import MAX_ENTRIES
from polysync_airflow.hooks.calls import Caller, HookCalls, parse

if TYPE_CHECKING:
    # Imported when they are used: a triggerer, which does not use them, keeps few objects.
    from polysync_airflow.execution.pipelines.models import PipelineDescription, PipelineSummary
    from polysync_airflow.execution.results.jobs import JobDescription, JobKind


class PipelineMethods(HookCalls):
    """Describe and list pipelines, and describe jobs."""

    def list_pipelines(
        self, name_prefix: str | None = None, *, through: Caller | None = None
    ) -> Iterator[PipelineSummary]:
        """
        Iterate over the pipelines of the account and region, sorted by name. Pages are listed when needed.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html

        :param name_prefix: list only pipelines whose names begin with it.
        :param through: function that makes the call for each page, such as ``ConcurrentCalls.call``; None for
            the connection's rate limiter.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        from polysync_airflow.execution.pipelines.models import PipelineSummary

        operation = "ListPipelines"
        request = {"SortBy": "Name", "SortOrder": "Ascending", "PipelineNamePrefix": name_prefix or None}
        for entry in self._entries_of_list(operation, "PipelineSummaries", MAX_ENTRIES, through, request):
            yield parse(PipelineSummary, operation, entry)

    def describe_pipeline(
        self, pipeline_name: str, version_id: int | None = None, *, version_alias: str | None = None
    ) -> PipelineDescription:
        """
        Describe a pipeline, with its definition.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html

        :param pipeline_name: name or ARN of the pipeline.
        :param version_id: the version whose definition is returned; None for the latest.
        :param version_alias: an alias of the version, in place of its number.
        :raises SageMakerApiError: the call failed.
        """
        from polysync_airflow.execution.pipelines.models import PipelineDescription

        operation = "DescribePipeline"
        optional = {"PipelineVersionId": version_id, "PipelineVersionAlias": version_alias}
        response = self.call(operation, PipelineName=pipeline_name, **optional)
        return parse(PipelineDescription, operation, response)

    def describe_job(self, kind: JobKind, name: str) -> JobDescription:
        """
        Describe what a step of an execution has run or made, such as a training job.

        :param kind: which operation describes it, and what is read from the response.
        :param name: the name of the job; of a model package its ARN.
        :raises SageMakerApiError: the call failed.
        """
        operation, member = kind.operation, kind.member
        response = self.call(operation, **{member: name})
        # Not the name, which a version of a model package does not have.
        arn_member = f"{member.removesuffix('Name')}Arn"
        if not isinstance(response.get(arn_member), str):
            raise invalid_response_error(operation, f"it has no {arn_member}")
        return parse(kind.description, operation, response)

    @property
    def pipelines_arn(self) -> str:
        """The ARN pattern of all pipelines of the account and region."""
        account = self.get_caller_identity()["Account"]
        partition = self._signed_in_client.meta.partition
        return f"arn:{partition}:sagemaker:{self.region_name}:{account}:pipeline/*"
