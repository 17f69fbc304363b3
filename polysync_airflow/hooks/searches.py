"""The methods of the hook that find executions which others have started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from polysync_airflow.aws.response_limits import MAX_ENTRIES
from polysync_airflow.execution.models import MAX_PARAMETERS
from polysync_airflow.hooks.calls import Caller, HookCalls, parse

if TYPE_CHECKING:
    # Imported when it is used: a triggerer without searches keeps few objects.
    from polysync_airflow.execution.search import ListedExecution


class SearchMethods(HookCalls):
    """Find executions by their creation time, and read their parameters."""

    def find_pipeline_executions(
        self,
        pipeline_name: str,
        *,
        created_after: datetime,
        created_before: datetime | None = None,
        through: Caller | None = None,
    ) -> Iterator[ListedExecution]:
        """
        Iterate over the executions of a pipeline, the oldest first. Pages are listed when needed.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

        :param pipeline_name: name or ARN of the pipeline.
        :param created_after: list only executions that were created after this time.
        :param created_before: list only executions that were created before this time.
        :param through: function that makes the call for each page; None for the connection's rate limiter.
        :return: the executions. Entries that are not valid are left out.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        from polysync_airflow.execution.search import ListedExecution

        operation = "ListPipelineExecutions"
        request = {
            "PipelineName": pipeline_name,
            "CreatedAfter": created_after,
            "CreatedBefore": created_before,
            "SortBy": "CreationTime",
            "SortOrder": "Ascending",
        }
        member = "PipelineExecutionSummaries"
        for entry in self._entries_of_list(operation, member, MAX_ENTRIES, through, request):
            # One damaged entry must not hide the others.
            with suppress(ValidationError):
                yield ListedExecution.model_validate(entry)

    def list_pipeline_parameters_for_execution(
        self, execution_arn: str, *, through: Caller | None = None
    ) -> dict[str, str]:
        """
        Return the parameters of an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineParametersForExecution.html

        :param through: function that makes the call for each page; None for the connection's rate limiter.
        :raises SageMakerApiError: a call failed, or the response is not valid.
        """
        from polysync_airflow.execution.search import ParameterOfExecution

        operation = "ListPipelineParametersForExecution"
        request = {"PipelineExecutionArn": execution_arn}
        entries = self._entries_of_list(operation, "PipelineParameters", MAX_PARAMETERS, through, request)
        found = (parse(ParameterOfExecution, operation, entry) for entry in entries)
        return {parameter.name: parameter.value for parameter in found}
