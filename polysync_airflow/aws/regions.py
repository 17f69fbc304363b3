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


def region_cure(error: BaseException | None) -> str:
    """
    Return what to do about an error of botocore's; empty unless the host of AWS's
    endpoint does not exist, and botocore does not know its region.
    """
    region = _region_without_host(error)
    if region is None or region in _known_regions():
        return ""
    meant = meant_region(region)
    if meant:
        return f"there is no region {region}. Did you mean {meant}?"
    place = region.rpartition("-")[0]
    nearest = sorted(name for name in _known_regions() if name.startswith(f"{place}-"))
    known = ", ".join(nearest) or "none of this place"
    return (
        f"there is no region {region}, or no network: the name of the endpoint does not"
        f" resolve. botocore knows {known}."
    )


def has_misspelt_region(error: Exception) -> bool:
    """
    Return whether an error of botocore's says that the host of AWS's endpoint does not
    exist, and its region is misspelt.
    """
    region = _region_without_host(error)
    return region is not None and meant_region(region) is not None


def _region_without_host(error: BaseException | None) -> str | None:
    if not isinstance(error, EndpointConnectionError):
        return None
    cause = error.kwargs.get("error")
    name_error = getattr(cause, "__cause__", None) or cause
    if not isinstance(name_error, socket.gaierror):
        return None
    host = urlsplit(str(error.kwargs.get("endpoint_url"))).hostname or ""
    match = _AWS_HOST.fullmatch(host)
    if match is None or name_error.errno != socket.EAI_NONAME:
        return None
    return match[1]


@cache
def _known_regions() -> frozenset[str]:
    partitions = Loader().load_data("partitions")["partitions"]
    return frozenset(name for partition in partitions for name in partition["regions"])
