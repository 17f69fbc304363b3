"""The URL of an execution in the console of each AWS partition."""

from __future__ import annotations

import pytest

from polysync_airflow.execution.console import execution_url


@pytest.mark.parametrize(
    ("arn", "url"),
    [
        (
            "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc",
            "https://eu-central-1.console.aws.amazon.com/sagemaker/home?region=eu-central-1"
            "#/pipelines/Churn/executions/arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc",
        ),
        (
            "arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/churn/execution/abc",
            "https://cn-north-1.console.amazonaws.cn/sagemaker/home?region=cn-north-1"
            "#/pipelines/Churn/executions/arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/churn/execution/abc",
        ),
        (
            "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:pipeline/churn/execution/abc",
            "https://us-gov-west-1.console.amazonaws-us-gov.com/sagemaker/home?region=us-gov-west-1"
            "#/pipelines/Churn/executions/"
            "arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:pipeline/churn/execution/abc",
        ),
        ("arn:aws-iso:sagemaker:us-iso-east-1:123456789012:pipeline/churn/execution/abc", None),
    ],
)
def test_url_has_the_domain_of_the_partition(arn: str, url: str | None) -> None:
    """Region and domain come from the ARN, and the name of the pipeline keeps its spelling."""
    assert execution_url(arn, "Churn") == url


def test_url_has_the_pipeline_name_if_an_arn_is_given() -> None:
    """The URL contains the name of the pipeline, even if the operator got the pipeline's ARN."""
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn"

    assert "#/pipelines/churn/executions/" in str(execution_url(f"{arn}/execution/abc", arn))
