"""
Tells misspelt regions from those that are newer than botocore, which has a list of
AWS's regions.
"""

from __future__ import annotations

import re
import socket
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from botocore.exceptions import EndpointConnectionError
from botocore.loaders import Loader

from polysync_airflow.execution.texts import nearest_name

# api.sagemaker.eu-central-1.amazonaws.com
_AWS_HOST: Final = re.compile(
    r"[a-z.-]+\.([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.amazonaws\..+"
)


def meant_region(region: str) -> str | None:
    """
    Return the region that a misspelt one probably means; None if it seems to be none:
    a region that is newer than botocore mostly differs in its number only.
    """
    known_regions = _known_regions()
    places = {name.rpartition("-")[0] for name in known_regions}
    if region.rpartition("-")[0] in places:
        return None
    return nearest_name(region, known_regions)


def misspelt_region_cure(error: Exception) -> str:
    """
    Return what to do about an error of botocore's; empty unless the host of AWS's
    endpoint does not exist, and its region is misspelt.
    """
    if not isinstance(error, EndpointConnectionError):
        return ""
    cause = error.kwargs.get("error")
    name_error = getattr(cause, "__cause__", None) or cause
    if not isinstance(name_error, socket.gaierror):
        return ""
    host = urlsplit(str(error.kwargs.get("endpoint_url"))).hostname or ""
    match = _AWS_HOST.fullmatch(host)
    if match is None or name_error.errno != socket.EAI_NONAME:
        return ""
    meant = meant_region(match[1])
    if meant is None:
        return ""
    return f"there is no region {match[1]}. Did you mean {meant}?"


@cache
def _known_regions() -> frozenset[str]:
    partitions = Loader().load_data("partitions")["partitions"]
    return frozenset(name for partition in partitions for name in partition["regions"])
