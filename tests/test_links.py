"""The URL of an execution in the console of each AWS partition, and the buttons that lead there."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XCom

from polysync_airflow.execution.console import execution_url, log_url
from polysync_airflow.links import PolysyncFailedStepLogLink, PolysyncPipelineExecutionLink


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


ARN = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc"
BUTTONS = pytest.mark.parametrize("link", [PolysyncPipelineExecutionLink(), PolysyncFailedStepLogLink()])


@BUTTONS
@pytest.mark.parametrize(
    "url", [execution_url(ARN, "churn"), log_url(ARN, "/aws/sagemaker/TrainingJobs", "job/")]
)
def test_button_opens_the_console(link: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is the one that the task has stored."""
    monkeypatch.setattr(XCom, "get_value", lambda **_: url)

    assert link.get_link(None, ti_key=None) == url


@BUTTONS
@pytest.mark.parametrize(
    "url",
    [
        None,
        7,
        "javascript:alert(1)//us-east-1.console.aws.amazon.com",
        "http://us-east-1.console.aws.amazon.com/sagemaker/home",
        "https://example.com/?https://us-east-1.console.aws.amazon.com/",
        "https://us-east-1.console.aws.amazon.com.example.com/",
        "https://us-east-1.console.aws.amazon.com@example.com/",
        "https://example.com\\.console.aws.amazon.com/",
        "https://us-east-1.console.aws.amazon.com/\n<script>",
    ],
)
def test_button_leads_nowhere_else(link: Any, url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others can edit XComs, and a person clicks the button."""
    monkeypatch.setattr(XCom, "get_value", lambda **_: url)

    assert link.get_link(None, ti_key=None) == ""
