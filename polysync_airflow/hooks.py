"""Owns the border between Airflow and AWS: a connection in, one method per AWS operation, models out."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from polysync_airflow import __version__, probe
from polysync_airflow.connection import parse_credentials
from polysync_airflow.credentials import BaseCredentials
from polysync_airflow.exceptions import (
    UNKNOWN_HINT,
    CredentialsError,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    hint_for,
)
from polysync_airflow.get_provider_info import ALLOWED_IDENTITY_FOLDERS, DEFAULT_IDENTITY_FOLDERS
from polysync_airflow.models import (
    ExecutionDescription,
    PipelineDescription,
    PipelineSummary,
    StartRequest,
    StepDescription,
)
from polysync_airflow.refusals import BOTO_ERRORS, BotoError, explain, passes

if TYPE_CHECKING:
    import boto3
    from airflow.sdk import Connection

PAGE_SIZE: Final = 100
# StopPipelineExecution answers ConflictException for a moment while an execution moves between two steps.
STOP_ATTEMPTS: Final = 5
STOP_RETRY_SECONDS: Final = 0.3


def allowed_identity_folders() -> tuple[Path, ...]:
    """The folders under which a connection may name files: tokens, certificates, authorities."""
    told = conf.get(*ALLOWED_IDENTITY_FOLDERS, fallback=DEFAULT_IDENTITY_FOLDERS)
    return tuple(Path(folder.strip()) for folder in told.split(",") if folder.strip())


class PolysyncSageMakerHook(AwsBaseHook):
    """
    Talk to Amazon SageMaker Pipelines through a Polysync connection.

    An ordinary ``aws`` connection is accepted too and goes through the amazon provider unchanged.

    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws``.
    :param region_name: AWS region; goes before the connection's.
    """

    conn_name_attr = "polysync_conn_id"
    default_conn_name = "polysync_default"
    conn_type = "polysync_sagemaker"
    hook_name = "Polysync SageMaker"

    def __init__(self, polysync_conn_id: str = default_conn_name, region_name: str | None = None) -> None:
        super().__init__(aws_conn_id=polysync_conn_id, region_name=region_name, client_type="sagemaker")
        self.polysync_conn_id = polysync_conn_id

    # ---- sign-in

    @cached_property
    def _connection(self) -> Connection:
        if not self.polysync_conn_id or not isinstance(self.polysync_conn_id, str):
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} names no connection: give the id of a "
                "polysync_sagemaker or aws connection. The host's own credentials are never used by default."
            )
        try:
            connection = self.get_connection(self.polysync_conn_id)
        except AirflowNotFoundException as error:
            # Not lasting: a secrets backend that does not answer looks just the same.
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r}: there is no such connection. Add it under "
                "Admin > Connections with the type Polysync SageMaker, or correct the id.",
                lasting=False,
            ) from error
        if connection.conn_type not in (self.conn_type, AwsBaseHook.conn_type):
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} is a connection of type "
                f"{connection.conn_type!r}; it must be {self.conn_type!r} or {AwsBaseHook.conn_type!r}."
            )
        return connection

    @cached_property
    def credentials(self) -> BaseCredentials | None:
        """The connection's checked content; None for an ``aws`` connection."""
        connection = self._connection
        if connection.conn_type == AwsBaseHook.conn_type:
            return None
        fields = {
            **connection.extra_dejson,
            "access_key_id": connection.login,
            "secret_access_key": connection.password,
        }
        if self._region_name:
            fields["region_name"] = self._region_name
        credentials = parse_credentials(fields, connection_id=self.polysync_conn_id)
        for secret in credentials.secrets:
            mask_secret(secret)
        return credentials

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        """What the amazon provider's base hook reads; unlike there, a missing connection raises."""
        if self.credentials is None:
            wrapper = AwsConnectionWrapper(conn=self._connection, region_name=self._region_name)
        else:
            wrapper = AwsConnectionWrapper.from_connection_metadata(
                conn_id=self.polysync_conn_id,
                extra={
                    "region_name": self.credentials.region_name,
                    "endpoint_url": self.credentials.endpoint_url,
                    "verify": self.credentials.verify,
                },
            )
        ours = Config(retries={"mode": "standard"}, user_agent_extra=f"polysync-airflow/{__version__}")
        wrapper.botocore_config = ours.merge(wrapper.botocore_config) if wrapper.botocore_config else ours
        return wrapper

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> boto3.session.Session:
        """Return the one boto3 session of this hook's connection."""
        if self.credentials is not None:
            return self.credentials.session(allowed_identity_folders())
        session = super().get_session(region_name=region_name, deferrable=deferrable)
        if not session.region_name:
            raise CredentialsError(
                f"No region: set region_name in the extra of connection {self.polysync_conn_id!r}, or "
                "give the operator a region_name."
            )
        return session

    # ---- one method per operation

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
                lasting=False,
                passing=True,
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

    def observe_pipeline_execution(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """
        Look at an execution as a wait does: a refusal is an answer to decide on, not the end.

        :param execution_arn: the execution.
        """
        try:
            return self.describe_pipeline_execution(execution_arn)
        except PolysyncError as error:
            return error

    def list_pipeline_execution_steps(self, execution_arn: str) -> list[StepDescription]:
        """
        List an execution's steps, all pages.

        :param execution_arn: the execution.
        :raises SageMakerApiError: if AWS refuses.
        """
        pages = self._pages("ListPipelineExecutionSteps", PipelineExecutionArn=execution_arn)
        return [StepDescription.model_validate(s) for page in pages for s in page["PipelineExecutionSteps"]]

    def list_pipelines(self, name_prefix: str | None = None) -> Iterator[PipelineSummary]:
        """
        List the account's pipelines in this region by name, page by page.

        :param name_prefix: only those whose names begin so.
        :raises SageMakerApiError: if AWS refuses.
        """
        request = {"SortBy": "Name", "SortOrder": "Ascending"}
        if name_prefix:
            request["PipelineNamePrefix"] = name_prefix
        for page in self._pages("ListPipelines", **request):
            yield from (PipelineSummary.model_validate(summary) for summary in page["PipelineSummaries"])

    def describe_pipeline(self, pipeline_name: str) -> PipelineDescription:
        """
        Describe a pipeline with its definition.

        :param pipeline_name: name or ARN.
        :raises SageMakerApiError: if AWS refuses.
        """
        return PipelineDescription.model_validate(self.call("DescribePipeline", PipelineName=pipeline_name))

    def get_caller_identity(self) -> dict[str, Any]:
        """
        Ask AWS who signs in.

        :raises CredentialsError: if signing in fails, or STS does not answer.
        """
        own = self.credentials
        endpoint = own.sts_endpoint_url if own else self.conn_config.get_service_endpoint_url("sts")
        try:
            sts = self.get_session(self.region_name).client(
                "sts", endpoint_url=endpoint, config=self._get_config(), verify=self.verify
            )
            answer: dict[str, Any] = sts.get_caller_identity()
        except BOTO_ERRORS as error:
            raise self._sign_in_failed(error) from error
        return answer

    def test_connection(self) -> tuple[bool, str]:
        """Tell who signs in and what is permitted: the button "Test" of the connection form."""
        try:
            return probe.report(self)
        except PolysyncError as error:
            return False, str(error)

    @property
    def way(self) -> str:
        """How this connection signs in."""
        return self.credentials.way if self.credentials else "an aws connection"

    @property
    def credentials_expire_at(self) -> datetime | None:
        """When the credentials in use expire, if they do; they are renewed before."""
        found = self.get_session(self.region_name).get_credentials()
        expiry: datetime | None = getattr(found, "_expiry_time", None)
        return expiry.astimezone(UTC) if expiry else None

    @property
    def pipelines_arn(self) -> str:
        """The pattern of all pipelines of account and region."""
        account = self.get_caller_identity()["Account"]
        partition = self._signed_in_client.meta.partition
        return f"arn:{partition}:sagemaker:{self.region_name}:{account}:pipeline/*"

    # ---- how every operation is called

    @property
    def _signed_in_client(self) -> Any:
        try:
            return self._client
        except BOTO_ERRORS as error:
            raise self._sign_in_failed(error) from error

    def _sign_in_failed(self, error: BotoError) -> CredentialsError:
        hint = UNKNOWN_HINT
        if isinstance(error, ClientError):
            hint = hint_for(error.response["Error"]["Code"], error.operation_name)
        return CredentialsError(
            f"Could not sign in with the connection {self.polysync_conn_id!r}: {error}",
            lasting=hint.lasting,
            passing=passes(error, hint),
        )

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
            raise explain(
                error, operation, request, region=self.region_name, partition=client.meta.partition
            ) from error
        return answer

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self.call(operation, MaxResults=PAGE_SIZE, **request, **token)
            yield page
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}
