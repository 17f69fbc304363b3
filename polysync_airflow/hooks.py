"""Owns the border between Airflow and AWS: a connection in, one method per AWS operation, models out."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from botocore import xform_name

from polysync_airflow.auth import connection_test
from polysync_airflow.auth.base_hook import PolysyncBaseHook
from polysync_airflow.aws.error_mapping import BOTO_ERRORS, map_error
from polysync_airflow.exceptions import ParametersError, PolysyncError, SageMakerApiError
from polysync_airflow.execution.models import (
    ExecutionDescription,
    PipelineDescription,
    PipelineSummary,
    StartRequest,
    StepDescription,
)

PAGE_SIZE: Final = 100
# StopPipelineExecution answers ConflictException for a moment while an execution moves between two steps.
STOP_ATTEMPTS: Final = 5
STOP_RETRY_SECONDS: Final = 0.3

Answer = dict[str, Any]
# Makes a call that it is given: at once, when there is room, again after an error that passes.
Through = Callable[[Callable[[], Answer]], Answer]


def at_once(call: Callable[[], Answer]) -> Answer:
    """
    Make a call.

    :param call: the call.
    """
    return call()


class PolysyncSageMakerHook(PolysyncBaseHook):
    """
    Talk to Amazon SageMaker Pipelines through a Polysync connection.

    An ordinary ``aws`` connection is accepted too and goes through the amazon provider unchanged.

    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws``.
    :param region_name: AWS region; goes before the connection's.
    :param config: settings of botocore; each goes before the connection's.
    """

    def start_pipeline_execution(self, request: StartRequest) -> str:
        """
        Start an execution.

        :param request: what to start; its token makes a repeated request the same execution.
        :return: the execution's ARN.
        :raises SageMakerApiError: if AWS refuses.
        """
        answer = self.call("StartPipelineExecution", **request.to_aws())
        arn = answer.get("PipelineExecutionArn")
        if not arn:
            raise SageMakerApiError(
                "StartPipelineExecution was answered without an execution's ARN, as by a proxy that answers "
                "in AWS's place.",
                error_code="ResponseParserError",
                operation="StartPipelineExecution",
                permanent=False,
                transient=True,
            )
        return str(arn)

    def retry_pipeline_execution(
        self, execution_arn: str, *, token: str, max_parallel_steps: int | None = None
    ) -> None:
        """
        Let an execution that failed go on: what had succeeded is kept, the rest is run.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html

        :param execution_arn: the execution.
        :param token: 32 to 128 characters; makes a repeated request the same resume.
        :param max_parallel_steps: how many steps may run at once; None for the pipeline's own limit, whatever
            the execution was started with.
        :raises SageMakerApiError: if AWS refuses.
        """
        limit = {"MaxParallelExecutionSteps": max_parallel_steps}
        self.call(
            "RetryPipelineExecution",
            PipelineExecutionArn=execution_arn,
            ClientRequestToken=token,
            **({"ParallelismConfiguration": limit} if max_parallel_steps else {}),
        )

    def stop_pipeline_execution(self, execution_arn: str, *, attempt: int | None = None) -> None:
        """
        Ask for an execution to be stopped. It passes through Stopping and may still end otherwise.

        :param execution_arn: the execution.
        :param attempt: which attempt of it (0 for its start, n for its n-th resume): however often one is
            asked to stop, it is one stop. None for a stop of its own.
        :raises SageMakerApiError: if AWS refuses, as it does when the execution has ended already.
        """
        # Not by the ARN alone: the stop of a resumed execution would count as the one before the resume.
        stopped = f"{execution_arn}#{uuid.uuid4() if attempt is None else attempt}"
        token = f"polysync-stop-{hashlib.sha256(stopped.encode()).hexdigest()}"
        for ask in range(1, STOP_ATTEMPTS + 1):
            try:
                self.call(
                    "StopPipelineExecution", PipelineExecutionArn=execution_arn, ClientRequestToken=token
                )
                return
            except SageMakerApiError as error:
                if error.error_code != "ConflictException" or ask == STOP_ATTEMPTS:
                    raise
                time.sleep(STOP_RETRY_SECONDS)

    def describe_pipeline_execution(self, execution_arn: str) -> ExecutionDescription:
        """
        Look at an execution.

        :param execution_arn: the execution.
        :raises SageMakerApiError: if AWS refuses.
        """
        answer = self.call("DescribePipelineExecution", PipelineExecutionArn=execution_arn)
        return ExecutionDescription.model_validate(answer)

    def poll_pipeline_execution(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """
        Look at an execution as a wait does: a refusal is an answer to decide on, not the end.

        :param execution_arn: the execution.
        """
        try:
            return self.describe_pipeline_execution(execution_arn)
        except PolysyncError as error:
            return error

    def list_pipeline_executions(
        self, pipeline_name: str, *, created_after: datetime | None = None, page_token: str | None = None
    ) -> tuple[list[ExecutionDescription], str | None]:
        """
        List a page of a pipeline's executions, the newest first.

        :param pipeline_name: name or ARN.
        :param created_after: leave out those that began before.
        :param page_token: what the page before gave; None for the first.
        :return: at most a hundred, and what gives the next page; None after the last.
        :raises SageMakerApiError: if AWS refuses.
        """
        request = {"PipelineName": pipeline_name, "SortBy": "CreationTime", "SortOrder": "Descending"}
        more = {"CreatedAfter": created_after, "NextToken": page_token}
        page = self.call(
            "ListPipelineExecutions",
            MaxResults=PAGE_SIZE,
            **request,
            **{member: value for member, value in more.items() if value},
        )
        rows = [ExecutionDescription.model_validate(row) for row in page["PipelineExecutionSummaries"]]
        return rows, page.get("NextToken")

    def list_pipeline_execution_steps(self, execution_arn: str) -> list[StepDescription]:
        """
        List an execution's steps, all pages.

        :param execution_arn: the execution.
        :raises SageMakerApiError: if AWS refuses.
        """
        pages = self._pages("ListPipelineExecutionSteps", PipelineExecutionArn=execution_arn)
        return [StepDescription.model_validate(s) for page in pages for s in page["PipelineExecutionSteps"]]

    def list_pipelines(
        self, name_prefix: str | None = None, *, through: Through = at_once
    ) -> Iterator[PipelineSummary]:
        """
        List the account's pipelines in this region by name, page by page.

        :param name_prefix: only those whose names begin so.
        :param through: makes each page's call.
        :raises SageMakerApiError: if AWS refuses.
        """
        request = {"SortBy": "Name", "SortOrder": "Ascending"}
        if name_prefix:
            request["PipelineNamePrefix"] = name_prefix
        for page in self._pages("ListPipelines", through, **request):
            yield from (PipelineSummary.model_validate(summary) for summary in page["PipelineSummaries"])

    def describe_pipeline(self, pipeline_name: str) -> PipelineDescription:
        """
        Describe a pipeline with its definition.

        :param pipeline_name: name or ARN.
        :raises SageMakerApiError: if AWS refuses.
        """
        return PipelineDescription.model_validate(self.call("DescribePipeline", PipelineName=pipeline_name))

    def test_connection(self) -> tuple[bool, str]:
        """Tell who signs in and what is permitted: the button "Test" of the connection form."""
        try:
            return connection_test.report(self)
        except PolysyncError as error:
            return False, str(error)

    @property
    def pipelines_arn(self) -> str:
        """The pattern of all pipelines of account and region."""
        account = self.get_caller_identity()["Account"]
        partition = self._signed_in_client.meta.partition
        return f"arn:{partition}:sagemaker:{self.region_name}:{account}:pipeline/*"

    # ---- how every operation is called

    def check_supported(self, request: StartRequest) -> None:
        """
        Refuse a request that the installed botocore cannot send, before it is sent.

        :param request: what is to be started.
        :raises ParametersError: naming the argument and the version that can.
        """
        api = self._signed_in_client.meta.service_model
        known = api.operation_model("StartPipelineExecution").input_shape.members
        if request.execution_role_arn and "RoleArn" not in known:
            raise ParametersError(
                f"execution_role_arn = {request.execution_role_arn!r} needs boto3 1.44 or newer; this "
                f"deployment has boto3 {version('boto3')}. Upgrade it, or leave the role out."
            )

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """
        Call an operation of SageMaker.

        :param operation: its name as AWS writes it.
        :param request: its request's members.
        :raises SageMakerApiError: if AWS refuses, with a hint.
        :raises CredentialsError: if signing in fails.
        """
        client = self._signed_in_client
        try:
            answer: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        except BOTO_ERRORS as error:
            raise map_error(
                error, operation, request, region=self.region_name, partition=client.meta.partition
            ) from error
        return answer

    def _pages(self, operation: str, through: Through = at_once, **request: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = through(partial(self.call, operation, MaxResults=PAGE_SIZE, **request, **token))
            yield page
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}
