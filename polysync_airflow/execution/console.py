"""URLs of the AWS console: executions, the jobs of their steps, and the logs of these jobs."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

# The isolated partitions have no public console, so they have no entry.
_CONSOLE_DOMAINS: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


def execution_url(execution_arn: str, pipeline_name: str) -> str | None:
    """
    Return the URL of an execution in the AWS console; None in partitions without a public console.

    :param execution_arn: ARN of the execution, with its partition and region.
    :param pipeline_name: name (as the owner of the pipeline spells it; ARNs have it in lower case) or ARN.
    """
    name = pipeline_name.rsplit("/", 1)[-1]
    return service_url(execution_arn, "sagemaker", f"/pipelines/{name}/executions/{execution_arn}")


def is_console_url(url: object) -> bool:
    """
    Return whether a text is a URL of the AWS console, so that a person may be sent there.

    :param url: the text, for example of an XCom that others can edit.
    """
    if not isinstance(url, str) or not url.isprintable():
        return False
    host = url.removeprefix("https://").partition("/")[0]
    return url.startswith("https://") and any(
        re.fullmatch(rf"[a-z0-9-]+\.{re.escape(domain)}", host) for domain in _CONSOLE_DOMAINS.values()
    )


def service_url(execution_arn: str, service: str, fragment: str) -> str | None:
    """
    Return the URL of a page of a service's console; None in partitions without a public console.

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
    Return the URL of the CloudWatch log streams with a prefix; None without a public console.

    :param execution_arn: an ARN of the same partition and region.
    :param stream_prefix: the prefix; empty for all streams of the group.
    """
    fragment = f"logsV2:log-groups/log-group/{_encode(group)}"
    if stream_prefix:
        fragment += f"$3FlogStreamNameFilter$3D{_encode(stream_prefix)}"
    return service_url(execution_arn, "cloudwatch", fragment)


def bucket_url(execution_arn: str, uri: str) -> str | None:
    """
    Return the URL of a folder in the S3 console; None for another URI or without a public console.

    :param execution_arn: an ARN of the same partition and region.
    :param uri: ``s3://<bucket>/<key>``.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    home = service_url(execution_arn, "s3", "")
    if home is None or not uri.startswith("s3://") or not bucket:
        return None
    base, _, query = home.removesuffix("#").partition("/s3/home?")
    return f"{base}/s3/buckets/{quote(bucket, safe='')}?{query}&prefix={quote(key, safe='')}"


def _encode(text: str) -> str:
    # The fragment of a CloudWatch URL is encoded twice, with "$" in place of the second "%".
    return quote(quote(text, safe=""), safe="").replace("%", "$")
