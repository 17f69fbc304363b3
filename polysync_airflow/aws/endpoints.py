"""Tells the hosts of AWS's endpoints from hosts of its domains that anybody can have, by botocore's data."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from itertools import product
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

# What tasks call.
SERVICES: Final = ("sagemaker", "sts", "logs", "sqs")
# What ``polysync verify`` calls, too.
VERIFY_SERVICES: Final = ("iam",)
_GLOBAL_REGION: Final = "aws-global"
# vpce-<id>-<suffix>.<host of the endpoint, with the label vpce before the domain>
_VPC_ENDPOINT: Final = re.compile(r"vpce-[a-z0-9-]+\.(?P<service>.+)\.vpce(?P<domain>\.amazonaws\.[a-z.]+)")


def is_aws_endpoint(host: str) -> bool:
    """
    Return whether a host is an endpoint of one of the services, also FIPS, dual-stack and inside a VPC.

    Other hosts of these domains may belong to anybody: buckets, load balancers, API gateways.

    :param host: the host in lower case.
    """
    inside_vpc = _VPC_ENDPOINT.fullmatch(host)
    if inside_vpc:
        host = inside_vpc["service"] + inside_vpc["domain"]
    return any(host in _hosts_in(region) for region in (_GLOBAL_REGION, *host.split(".")))


@lru_cache(maxsize=64)
def _hosts_in(region: str) -> frozenset[str]:
    loader = Loader()
    partitions = loader.load_data("partitions")
    if not any(_has_region(partition, region) for partition in partitions["partitions"]):
        # botocore makes a host of any label, such as that of a bucket: sts.s3.amazonaws.com.
        return frozenset()
    found = set()
    for service in (*SERVICES, *VERIFY_SERVICES):
        provider = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
        for fips, dual_stack in product((False, True), repeat=2):
            options = {"Region": region, "UseFIPS": fips, "UseDualStack": dual_stack}
            # Not every partition has all of them.
            with suppress(EndpointProviderError):
                found.add(urlsplit(provider.resolve_endpoint(**options).url).hostname or "")
    return frozenset(found)


def _has_region(partition: dict[str, Any], region: str) -> bool:
    # The expression is for regions that are newer than botocore.
    return region in partition["regions"] or bool(re.fullmatch(partition["regionRegex"], region))
