"""The hook of the checks: that of the operators, with IAM's simulation of policies."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from polysync_airflow.aws.sessions import is_aws_endpoint
from polysync_airflow.hooks import PolysyncSageMakerHook


class VerifyHook(PolysyncSageMakerHook):
    """The hook for a run of checks. The arguments are those of ``PolysyncSageMakerHook``."""

    # The operations that the checks and the methods of the hook call.
    client_operations = (
        "CreatePipeline",
        "DeletePipeline",
        "DescribePipeline",
        "DescribePipelineDefinitionForExecution",
        "DescribePipelineExecution",
        "DescribeProcessingJob",
        "ListPipelineExecutionSteps",
        "ListPipelineExecutions",
        "ListPipelineParametersForExecution",
        "ListPipelines",
        "ListTags",
        "RetryPipelineExecution",
        "SendPipelineExecutionStepFailure",
        "SendPipelineExecutionStepSuccess",
        "StartPipelineExecution",
        "StopPipelineExecution",
        "UpdatePipeline",
    )

    @property
    def secrets(self) -> list[str]:
        """The texts of the connection that nobody must see."""
        if self.credentials:
            return self.credentials.secrets
        of_aws = self.conn_config
        return [text for text in (of_aws.aws_secret_access_key, of_aws.aws_session_token) if text]

    @property
    def calls_aws(self) -> bool:
        """Whether the address of SageMaker is one of AWS, and not for example that of an emulator."""
        client: Any = self.conn
        return is_aws_endpoint(urlsplit(client.meta.endpoint_url).hostname or "")

    @cached_property
    def iam_client(self) -> Any:
        """
        A client for IAM, signed in with the connection.

        :raises CredentialsError: if the sign-in fails.
        """
        return self._report_client("iam")

    def call_iam(self, operation: str, **request: Any) -> dict[str, Any]:
        """Call an operation of IAM. The errors are those of ``call``."""
        return self._call_client(self.iam_client, operation, **request)
