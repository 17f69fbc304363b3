"""The URL of an execution in the SageMaker console, and the button in the Airflow UI that opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from polysync_airflow.airflow_compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

CONSOLE_URL_XCOM_KEY: Final = "console_url"

# The isolated partitions have no public console, so they have no entry.
_CONSOLE_DOMAINS: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def console_url(execution_arn: str, pipeline_name: str) -> str | None:
    """
    Return the URL of an execution in the AWS console; None in partitions without a public console.

    :param execution_arn: ARN of the execution, with its partition and region.
    :param pipeline_name: name (as the owner of the pipeline spells it; ARNs have it in lower case) or ARN.
    """
    _, partition, _, region, *_ = execution_arn.split(":")
    domain = _CONSOLE_DOMAINS.get(partition)
    if domain is None:
        return None
    name = pipeline_name.rsplit("/", 1)[-1]
    return (
        f"https://{region}.{domain}/sagemaker/home?region={region}"
        f"#/pipelines/{name}/executions/{execution_arn}"
    )


class PolysyncPipelineExecutionLink(BaseOperatorLink):
    """The button "SageMaker Console" of a task that has started an execution."""

    name = "SageMaker Console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the URL that the task pushed to XCom when the execution began; empty if there is none.

        :param operator: the task's operator.
        :param ti_key: the task instance.
        """
        from airflow.providers.common.compat.sdk import XCom

        return XCom.get_value(ti_key=ti_key, key=CONSOLE_URL_XCOM_KEY) or ""
