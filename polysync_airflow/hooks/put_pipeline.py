"""The method of the hook that creates or updates a pipeline."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from polysync_airflow import exceptions
from polysync_airflow.aws.responses import MAX_ENTRIES, invalid_response_error
from polysync_airflow.execution.definitions import PipelineDraft
from polysync_airflow.hooks.executions import HookCalls

# What AWS says of a name that is taken. The words have changed once, so they only
# decide whether to wait until AWS finds the pipeline:
# https://github.com/aws/sagemaker-python-sdk/pull/6256
_EXISTS: Final = re.compile("already exists|must be unique")


class PutPipeline(NamedTuple):
    """
    A pipeline that was created or updated.

    :param version_id: its version with the definition.
    """

    arn: str
    version_id: int
    was_created: bool


class PutPipelineMethods(HookCalls):
    """Create, update and delete pipelines, and read their tags."""

    def put_pipeline(self, draft: PipelineDraft) -> PutPipeline:
        """
        Create a pipeline, or update it. A definition that differs from the latest one
        becomes a new version. The same call can be repeated.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdatePipeline.html

        :return: the pipeline, and its version with this definition, also if another
            process updates the pipeline meanwhile.
        :raises SageMakerApiError: AWS refused a call.
        """
        request: dict[str, Any] = {
            "PipelineName": draft.pipeline_name,
            "PipelineDefinition": draft.definition,
            "RoleArn": draft.role_arn,
            "PipelineDescription": draft.pipeline_description,
        }
        if draft.max_parallel_steps:
            limit = {"MaxParallelExecutionSteps": draft.max_parallel_steps}
            request["ParallelismConfiguration"] = limit
        try:
            return self._put("UpdatePipeline", request)
        except exceptions.SageMakerApiError as error:
            if not exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
                raise
        tags = [
            {"Key": key, "Value": value} for key, value in draft.pipeline_tags.items()
        ]
        try:
            return self._put("CreatePipeline", {**request, "Tags": tags or None})
        except exceptions.SageMakerApiError as error:
            # AWS refuses so what is not valid, and also a name that exists: another
            # process may have created it, or a call whose response was lost.
            if not exceptions.has_code(error, exceptions.VALIDATION):
                raise
            refusal = error
        try:
            return self._put("UpdatePipeline", request)
        except exceptions.SageMakerApiError as error:
            if not exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND):
                raise
        if _EXISTS.search(str(refusal)):
            raise refusal.as_transient()
        raise refusal

    def _put(self, operation: str, request: dict[str, Any]) -> PutPipeline:
        response = self.call(operation, **request)
        was_created = operation == "CreatePipeline"
        # AWS names no version of a pipeline that it creates. The first one is 1.
        version_id = 1 if was_created else response.get("PipelineVersionId")
        if not isinstance(version_id, int) or version_id < 1:
            raise invalid_response_error(
                operation, f"its PipelineVersionId is {version_id!r}"
            )
        arn = response.get("PipelineArn")
        end = f":pipeline/{request['PipelineName']}"
        # AWS had ARNs in lower case.
        if not isinstance(arn, str) or not arn.lower().endswith(end.lower()):
            raise invalid_response_error(operation, f"its PipelineArn is {arn!r}")
        return PutPipeline(arn, version_id, was_created)

    def pipeline_tags(self, pipeline_arn: str) -> dict[str, str]:
        """
        Return the tags of a pipeline.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTags.html

        :raises SageMakerApiError: a call failed.
        """
        tags = self._entries_of_list(
            "ListTags",
            "Tags",
            MAX_ENTRIES,
            lambda call: call(),
            ResourceArn=pipeline_arn,
        )
        pairs = ((tag.get("Key"), tag.get("Value")) for tag in tags)
        return {str(key): str(value) for key, value in pairs}

    def delete_pipeline(self, pipeline_name: str) -> None:
        """
        Delete a pipeline with all its executions. AWS refuses it while one runs.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html

        :raises SageMakerApiError: AWS refused the call.
        """
        self.call("DeletePipeline", PipelineName=pipeline_name)
