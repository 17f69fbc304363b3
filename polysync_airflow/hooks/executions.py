"""The methods of the hook for executions of pipelines: one for each AWS operation."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from pydantic import ValidationError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from polysync_airflow.auth.base_hook import Response
from polysync_airflow.aws.error_mapping import invalid_response_error
from polysync_airflow.aws.job_logs import read_tail
from polysync_airflow.aws.response_limits import MAX_STEPS, PAGE_SIZE
from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription, StartRequest, sent_at
from polysync_airflow.execution.parameters import check_execution_arn
from polysync_airflow.execution.pipelines.definition import DeclaredStep, declared_steps
from polysync_airflow.execution.steps.descriptions import StepDescription, log_source
from polysync_airflow.hooks.calls import Caller, HookCalls, entries_of, parse

# StopPipelineExecution returns ConflictException for a moment while an execution moves between two steps.
STOP_ATTEMPTS: Final = 5
STOP_RETRY_SECONDS: Final = 0.3

# The members of StartPipelineExecution that the oldest supported boto3 does not know, with their arguments,
# and the version with which they came.
NEWEST_MEMBERS: Final = {"RoleArn": "execution_role_arn", "PipelineVersionAlias": "pipeline_version_alias"}
NEWEST_MEMBERS_SINCE: Final = "1.43.127"


class ExecutionMethods(HookCalls):
    """Start, resume, stop, describe and list executions."""

    # When AWS has accepted the last start or resume, by AWS's clock; None if it has not said so.
    responded_at: datetime | None = None

    def start_pipeline_execution(self, request: StartRequest) -> str:
        """
        Start an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

        :param request: the request. If it is sent again with the same client token, AWS returns the execution
            that it has already started.
        :return: ARN of the execution.
        :raises SageMakerApiError: the call failed.
        """
        operation = "StartPipelineExecution"
        response = self.call(operation, **request.to_aws())
        arn, self.responded_at = self._arn_in(operation, response), sent_at(response)
        _, _, _, region, account, _ = arn.split(":", 5)
        expected = {"region": (region, self.region_name)}
        if request.pipeline_name.startswith("arn:"):
            expected["account"] = (account, request.pipeline_name.split(":")[4])
        for part, (actual, wanted) in expected.items():
            if actual != wanted:
                raise invalid_response_error(operation, f"the execution's {part} is {actual}, not {wanted}")
        return arn

    def retry_pipeline_execution(
        self, execution_arn: str, *, token: str, max_parallel_steps: int | None = None
    ) -> None:
        """
        Resume a failed execution: AWS keeps the steps that have succeeded, and runs the others.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html

        :param token: client request token of 32 to 128 characters. If the request is sent again with the same
            token, AWS does not resume a second time.
        :param max_parallel_steps: number of steps that may run at the same time; None for the limit of the
            pipeline, even if the execution was started with another one.
        :raises SageMakerApiError: the call failed.
        """
        limit = {"MaxParallelExecutionSteps": max_parallel_steps}
        limits = {"ParallelismConfiguration": limit} if max_parallel_steps else {}
        operation = "RetryPipelineExecution"
        response = self._call_on(execution_arn, operation, ClientRequestToken=token, **limits)
        self.responded_at = sent_at(response)

    def stop_pipeline_execution(self, execution_arn: str, *, attempt: int | None = None) -> None:
        """
        Request a stop of an execution. Its status becomes Stopping first, and it may still succeed or fail.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html

        :param attempt: the attempt of the execution: 0 for its start, n for its n-th resume. All requests for
            the same attempt have the same client token, so that AWS stops it once. None for a new token.
        :raises SageMakerApiError: the call failed, for example because the execution has already ended.
        """
        # The ARN alone is not enough: AWS would take the stop of a resumed execution for the one before the
        # resume.
        stopped = f"{execution_arn}#{uuid.uuid4() if attempt is None else attempt}"
        token = f"polysync-stop-{hashlib.sha256(stopped.encode()).hexdigest()}"
        retrying = Retrying(
            retry=retry_if_exception(lambda error: has_code(error, CONFLICT)),
            stop=stop_after_attempt(STOP_ATTEMPTS),
            wait=wait_fixed(STOP_RETRY_SECONDS),
            sleep=clock.sleep,
            reraise=True,
        )
        retrying(self._call_on, execution_arn, "StopPipelineExecution", ClientRequestToken=token)

    def describe_pipeline_execution(self, execution_arn: str) -> ExecutionDescription:
        """
        Describe an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html

        :raises SageMakerApiError: the call failed.
        """
        operation = "DescribePipelineExecution"
        return parse(ExecutionDescription, operation, self._call_on(execution_arn, operation))

    def poll_pipeline_execution(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """Describe an execution; return an error instead of raising it: ``decide`` takes both."""
        try:
            return self.describe_pipeline_execution(execution_arn)
        except PolysyncError as error:
            return error

    def list_pipeline_executions(
        self, pipeline_name: str, *, created_after: datetime | None = None, page_token: str | None = None
    ) -> tuple[list[ExecutionDescription], str | None]:
        """
        List one page of a pipeline's executions, sorted by creation time, the newest first.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

        :param pipeline_name: name or ARN of the pipeline.
        :param created_after: list only executions that were created after this time.
        :param page_token: token of this page, which the page before returned; None for the first page.
        :return: at most 100 executions, and the token of the next page; None after the last page. Entries
            that are not valid are left out.
        :raises SageMakerApiError: the call failed.
        """
        operation = "ListPipelineExecutions"
        request = {"PipelineName": pipeline_name, "SortBy": "CreationTime", "SortOrder": "Descending"}
        optional = {"CreatedAfter": created_after, "NextToken": page_token}
        page = self.call(operation, MaxResults=PAGE_SIZE, **request, **optional)
        rows = []
        for entry in entries_of(page, operation, "PipelineExecutionSummaries"):
            # One damaged entry must not fail the waits for all the others.
            with suppress(ValidationError):
                rows.append(ExecutionDescription.model_validate(entry))
        return rows, page.get("NextToken")

    def list_pipeline_execution_steps(
        self, execution_arn: str, *, through: Caller | None = None
    ) -> list[StepDescription]:
        """
        List all steps of an execution.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutionSteps.html

        :param through: function that makes the call for each page; None for the connection's rate limiter.
        :raises SageMakerApiError: a call failed, or the list does not end.
        """
        operation, member = "ListPipelineExecutionSteps", "PipelineExecutionSteps"
        request = {"PipelineExecutionArn": execution_arn}
        entries = self._entries_of_list(operation, member, MAX_STEPS, through, request)
        return [parse(StepDescription, operation, entry) for entry in entries]

    def describe_pipeline_definition_for_execution(self, execution_arn: str) -> list[DeclaredStep]:
        """
        Return the steps of the definition that an execution runs, in its order.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineDefinitionForExecution.html

        :raises SageMakerApiError: the call failed.
        """
        operation = "DescribePipelineDefinitionForExecution"
        definition = self.call(operation, PipelineExecutionArn=execution_arn).get("PipelineDefinition")
        return declared_steps(definition if isinstance(definition, str) else None)

    def read_step_log(self, step: StepDescription, limit: int) -> list[str]:
        """
        Return the last lines of the log of a step's job.

        https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html

        :return: no lines if the kind of the step writes no log, or the job has written none.
        :raises SageMakerApiError: a call failed.
        """
        source = log_source(step)
        if source is None:
            return []
        try:
            return read_tail(self.call_logs, *source, limit=limit, since=step.started_at, until=step.ended_at)
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                return []
            raise

    def check_supported(self, request: StartRequest) -> None:
        """
        Check that the installed botocore can send a start request.

        :raises ParametersError: a field of the request needs a newer boto3.
        """
        service_model = self._signed_in_client.meta.service_model
        members = service_model.operation_model("StartPipelineExecution").input_shape.members
        for member, name in NEWEST_MEMBERS.items():
            value = getattr(request, name)
            if value and member not in members:
                raise ParametersError(
                    f"{name} = {value!r} needs boto3 {NEWEST_MEMBERS_SINCE} or newer; this deployment "
                    f"has boto3 {version('boto3')}. Upgrade boto3, or leave the argument out."
                )

    def _call_on(self, execution_arn: str, operation: str, **request: Any) -> Response:
        """Call an operation on an execution, and check that the response is about this execution."""
        response = self.call(operation, PipelineExecutionArn=execution_arn, **request)
        arn = self._arn_in(operation, response)
        if arn.lower() != execution_arn.lower():
            raise invalid_response_error(operation, f"it is about {arn}")
        return response

    @staticmethod
    def _arn_in(operation: str, response: Response) -> str:
        arn = response.get("PipelineExecutionArn")
        try:
            check_execution_arn(arn)
        except ParametersError:
            raise invalid_response_error(operation, f"its PipelineExecutionArn is {arn!r}") from None
        return str(arn)
