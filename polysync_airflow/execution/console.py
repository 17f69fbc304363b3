"""
URLs of the AWS console and of SageMaker Studio: executions, the jobs of their steps,
and their logs.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from polysync_airflow.execution.models import pipeline_name_of

# The isolated partitions have no public console, so they have no entry. A host begins
# with the region:
# https://docs.aws.amazon.com/general/latest/gr/mgmt-console.html
_CONSOLE_DOMAINS: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
# All of the URL, because people can run applications of their own in a domain of
# Studio.
_STUDIO_URL: Final = re.compile(
    r"https://studio-d-[a-z0-9-]+\.studio\.[a-z0-9-]+\.sagemaker\.aws"
    r"/pipelines/view/[A-Za-z0-9-]+/executions/[a-z0-9]+/graph"
)
# AWS gives the URL of a domain
# (https://docs.aws.amazon.com/datazone/latest/APIReference/API_GetDomain.html,
# ``portalUrl``), and the ids that are in it and in that of a project:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UnifiedStudioSettings.html
UNIFIED_STUDIO_URL: Final = (
    r"https://dzd[-_][a-zA-Z0-9_-]{1,36}\.sagemaker\.[a-z0-9-]{1,24}\.on\.aws"
    r"(?:/projects/[a-zA-Z0-9_-]{1,36}(?:/overview)?)?/?"
)

_S3_URI: Final = re.compile(r"s3[an]?://([^/]+)/?((?:.*/)?)[^/]*", re.DOTALL)


def execution_url(execution_arn: str, pipeline_name: str) -> str | None:
    """
    Return the URL of an execution in the AWS console; None in partitions without a
    public console.

    :param execution_arn: ARN of the execution, with its partition and region.
    :param pipeline_name: name (as the owner of the pipeline spells it; ARNs have it in
        lower case) or ARN.
    """
    page = f"/pipelines/{pipeline_name_of(pipeline_name)}/executions/{execution_arn}"
    return service_url(execution_arn, "sagemaker", page)


def studio_url(
    execution_arn: str, pipeline_name: str, domain_id: str | None
) -> str | None:
    """
    Return the URL of an execution in SageMaker Studio; None without a domain, or
    outside of partition aws.

    :param execution_arn: ARN of the execution, with its region.
    :param pipeline_name: as in ``execution_url``.
    :param domain_id: the domain of Studio, such as ``d-abcdefghijkl``.
    """
    _, partition, _, region, *_ = execution_arn.split(":")
    if domain_id is None or partition != "aws":
        return None
    name = pipeline_name_of(pipeline_name)
    execution_id = execution_arn.rsplit("/", 1)[-1]
    host = f"studio-{domain_id}.studio.{region}.sagemaker.aws"
    return f"https://{host}/pipelines/view/{name}/executions/{execution_id}/graph"


def is_studio_url(url: object) -> bool:
    """
    Return whether a text is the URL of an execution in SageMaker Studio.

    :param url: the text, for example of an XCom that others can edit.
    """
    return isinstance(url, str) and _STUDIO_URL.fullmatch(url) is not None


def is_unified_studio_url(url: object) -> bool:
    """
    Return whether a text is the URL of a domain, or of a project, of SageMaker Unified
    Studio.

    :param url: the text, for example of an XCom that others can edit.
    """
    return isinstance(url, str) and re.fullmatch(UNIFIED_STUDIO_URL, url) is not None


def is_console_url(url: object) -> bool:
    """
    Return whether a text is a URL of the AWS console, so that a person may be sent
    there.

    :param url: the text, for example of an XCom that others can edit.
    """
    if not isinstance(url, str) or not url.isprintable():
        return False
    if not url.startswith("https://"):
        return False
    host = url.removeprefix("https://").partition("/")[0]
    return any(
        re.fullmatch(rf"[a-z0-9-]+\.{re.escape(domain)}", host)
        for domain in _CONSOLE_DOMAINS.values()
    )


def service_url(execution_arn: str, service: str, fragment: str) -> str | None:
    """
    Return the URL of a page of a service's console; None in partitions without a public
    console.

    :param execution_arn: an ARN of the same partition and region.
    :param service: the service, as the console names it, such as ``sagemaker``.
    :param fragment: the page, which is the part after ``#``.
    """
    _, partition, _, region, *_ = execution_arn.split(":")
    domain = _CONSOLE_DOMAINS.get(partition)
    if domain is None:
        return None
    return f"https://{region}.{domain}/{service}/home?region={region}#{fragment}"


def log_url(execution_arn: str, group: str, stream_prefix: str) -> str | None:
    """
    Return the URL of the CloudWatch log streams with a prefix; None without a public
    console.

    :param execution_arn: an ARN of the same partition and region.
    :param stream_prefix: the prefix; empty for all streams of the group.
    """
    fragment = f"logsV2:log-groups/log-group/{_encode(group)}"
    if stream_prefix:
        fragment += f"$3FlogStreamNameFilter$3D{_encode(stream_prefix)}"
    return service_url(execution_arn, "cloudwatch", fragment)


def folder_url(execution_arn: str, uri: str) -> str | None:
    """
    Return the URL of a file's folder in the S3 console; None for another URI or without
    a public console.

    :param execution_arn: an ARN of the same partition and region.
    :param uri: ``s3://<bucket>/<key>``; EMR also writes ``s3n`` and ``s3a``. A key that
        ends with a slash is that of the folder itself.
    """
    match = _S3_URI.fullmatch(uri)
    home = service_url(execution_arn, "s3", "")
    if match is None or home is None:
        return None
    bucket = quote(match[1], safe="")
    folder = quote(match[2], safe="")
    base, _, query = home.removesuffix("#").partition("/s3/home?")
    return f"{base}/s3/buckets/{bucket}?{query}&prefix={folder}"


def _encode(text: str) -> str:
    # The fragment of a CloudWatch URL is encoded twice. "$" takes the place of the
    # second "%".
    return quote(quote(text, safe=""), safe="").replace("%", "$")
