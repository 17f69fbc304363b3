"""
The URL of an execution in the console of each AWS partition, and the buttons that lead
there.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.console import (
    execution_url,
    is_studio_url,
    is_unified_studio_url,
    log_url,
    studio_url,
)
from polysync_airflow.links import (
    PolysyncFailedStepLogLink,
    PolysyncPipelineExecutionLink,
    PolysyncStudioLink,
    PolysyncUnifiedStudioLink,
)
from polysync_airflow.operators import PolysyncStartPipelineOperator


@pytest.mark.parametrize(
    ("partition", "region", "domain"),
    [
        ("aws", "eu-central-1", "console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("aws-eusc", "eusc-de-east-1", "console.amazonaws-eusc.eu"),
    ],
)
def test_url_has_the_domain_of_the_partition(
    partition: str, region: str, domain: str
) -> None:
    """
    Region and domain come from the ARN, and the name of the pipeline keeps its
    spelling, also that of an ARN.
    """
    pipelines = f"arn:{partition}:sagemaker:{region}:123456789012:pipeline"
    arn = f"{pipelines}/churn/execution/abc"

    by_name, by_arn = (
        execution_url(arn, name) for name in ("Churn", f"{pipelines}/Churn")
    )

    assert by_name == by_arn
    assert by_name == (
        f"https://{region}.{domain}/sagemaker/home?region={region}"
        f"#/pipelines/Churn/executions/{arn}"
    )


IN_FRANKFURT = (
    "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/4jg"
)
IN_CHINA = "arn:aws-cn:sagemaker:cn-north-1:123456789012:pipeline/churn/execution/4jg"
IN_STUDIO = (
    "https://studio-d-abc.studio.eu-central-1.sagemaker.aws"
    "/pipelines/view/Churn-2/executions/4jg/graph"
)


@pytest.mark.parametrize(
    ("arn", "domain_id", "url"),
    [
        (IN_FRANKFURT, "d-abc", IN_STUDIO),
        (IN_FRANKFURT, None, None),
        (IN_CHINA, "d-a", None),
    ],
)
def test_url_of_studio_needs_a_domain(
    arn: str, domain_id: str | None, url: str | None
) -> None:
    """
    Studio has a host for each domain and region; of the other partitions, its hosts are
    not known.
    """
    by_name, by_arn = (
        studio_url(arn, name, domain_id)
        for name in ("Churn-2", f"{arn.rsplit('/', 3)[0]}/Churn-2")
    )

    assert by_name == by_arn == url
    assert is_studio_url(url) is (url is not None)


STUDIO_URL = "https://studio-d-abcdefghijkl.studio.eu-central-1.sagemaker.aws/pipelines/view/churn/executions/abc/graph"
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:pipeline/churn/execution/abc"


@pytest.mark.skipif(
    not CAPABILITIES.links_are_xcoms, reason="Airflow 2 asks the button"
)
def test_buttons_show_the_xcoms_of_users() -> None:
    """
    So a button costs no request; the UI reads the value as Airflow's own backend stores
    it.
    """
    links = PolysyncStartPipelineOperator.operator_extra_links

    assert [link.xcom_key for link in links] == [
        "console_url",
        "studio_url",
        "unified_studio_url",
        "failed_step_log_url",
    ]


DOMAIN = "https://dzd_4h7jbz76qckoh5.sagemaker.eu-west-1.on.aws"


@pytest.mark.parametrize(
    ("url", "is_right"),
    [
        # As AWS returns that of a domain, and as the browser shows that of a project.
        (DOMAIN, True),
        (f"{DOMAIN}/", True),
        (f"{DOMAIN}/projects/adwbpi493gd9k9", True),
        (f"{DOMAIN.replace('_', '-')}/projects/adwbpi493gd9k9/overview", True),
        (None, False),
        (DOMAIN.replace("https", "http"), False),
        (DOMAIN.replace("dzd_", "abc"), False),
        (DOMAIN.replace(".sagemaker.", ".lambda-url."), False),
        (DOMAIN.replace("sagemaker.eu-west-1", "sagemaker"), False),
        (f"{DOMAIN}.example.com", False),
        (DOMAIN.replace("https://", "https://example.com/"), False),
        (f"{DOMAIN}:8443", False),
        # People can run applications of their own there, too.
        (f"{DOMAIN}/proxy/8000/", False),
        (f"{DOMAIN}/projects/../proxy/8000/", False),
        (f"{DOMAIN}/projects/adwbpi493gd9k9/jupyterlab", False),
        (f"{DOMAIN}?next=https://example.com", False),
        (f"{DOMAIN}\n", False),
    ],
)
def test_url_of_unified_studio_is_of_a_domain_or_a_project(
    url: Any, is_right: bool
) -> None:
    """Whoever edits a connection or an XCom sends nobody elsewhere."""
    assert is_unified_studio_url(url) is is_right


CONSOLE_LINKS = [PolysyncPipelineExecutionLink(), PolysyncFailedStepLogLink()]


@pytest.mark.parametrize(
    ("link", "url"),
    [
        *product(CONSOLE_LINKS, [execution_url(ARN, "churn"), log_url(ARN, "/a", "b")]),
        (PolysyncStudioLink(), STUDIO_URL),
    ],
)
def test_button_opens_the_console(
    link: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL is the one that the task has stored."""
    monkeypatch.setattr("polysync_airflow.links.read_xcom", lambda *_: url)

    assert link.get_link(None, ti_key=None) == url


NOT_OF_STUDIO: list[Any] = [
    None,
    execution_url(ARN, "churn"),
    STUDIO_URL.replace("https", "http"),
    STUDIO_URL.replace(".aws/", ".aws.example.com/"),
    STUDIO_URL.replace("studio-d-abcdefghijkl", "example.com/studio-d-abcdefghijkl"),
    # People can run applications of their own in a domain of Studio.
    STUDIO_URL.replace(
        "pipelines/view/churn/executions/abc/graph", "jupyterlab/default/lab"
    ),
    STUDIO_URL.replace("studio-d-", "d-"),
    f"{STUDIO_URL}\n",
]
NOT_OF_THE_CONSOLE: list[Any] = [
    STUDIO_URL,
    None,
    7,
    "javascript:alert(1)//us-east-1.console.aws.amazon.com",
    "http://us-east-1.console.aws.amazon.com/sagemaker/home",
    "https://example.com/?https://us-east-1.console.aws.amazon.com/",
    "https://us-east-1.console.aws.amazon.com.example.com/",
    "https://us-east-1.console.aws.amazon.com@example.com/",
    "https://example.com\\.console.aws.amazon.com/",
    "https://us-east-1.console.aws.amazon.com/\n<script>",
]


@pytest.mark.parametrize(
    ("link", "url"),
    [
        *product([PolysyncStudioLink()], NOT_OF_STUDIO),
        (PolysyncUnifiedStudioLink(), STUDIO_URL),
        *product(CONSOLE_LINKS, NOT_OF_THE_CONSOLE),
    ],
)
def test_button_leads_nowhere_else(
    link: Any, url: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others can edit XComs, and a person clicks the button."""
    monkeypatch.setattr("polysync_airflow.links.read_xcom", lambda *_: url)

    assert link.get_link(None, ti_key=None) == ""
