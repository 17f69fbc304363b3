"""The console link: right in every partition, and never an erased button."""

from __future__ import annotations

import pytest

from polysync_airflow.links import console_url


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
def test_the_link_leads_to_the_partitions_own_console(arn: str, url: str | None) -> None:
    """Region and domain come from the ARN, the name from the pipeline's owner."""
    assert console_url(arn, "Churn") == url


def test_a_pipeline_given_by_arn_is_linked_by_its_name() -> None:
    """The console's address wants a name."""
    arn = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn"

    assert "#/pipelines/churn/executions/" in str(console_url(f"{arn}/execution/abc", arn))
