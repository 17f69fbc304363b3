"""
The addresses and host names of the emulator. This module uses the standard library
only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import Final

LOOPBACK: Final = "127.0.0.1"
THIS_MACHINE: Final = "localhost"
_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", re.ASCII)


class AddressError(ValueError):
    """
    Raised when the emulator cannot have an address or a host name; the message says
    what to give.
    """


def check_bind(bind: str, allowed_hosts: Collection[str]) -> None:
    """
    Check the address to listen on.

    :param bind: the address.
    :param allowed_hosts: the names by which clients on other hosts reach the emulator.
    :raises AddressError: if it is not an IPv4 address, if others can reach it and no
        name is allowed, or if the names are one text.
    """
    try:
        ipaddress.IPv4Address(bind)
    except ValueError:
        raise AddressError(
            f"bind = {bind!r} is not an IPv4 address. Give one of this host."
        ) from None
    if isinstance(allowed_hosts, str):
        raise AddressError(
            f"allowed_hosts = {allowed_hosts!r} is a text: give a list of names."
        )
    if not is_loopback(bind) and not allowed_hosts:
        raise AddressError(
            f"bind = {bind!r} can be reached from other hosts: allow the name by which"
            " clients there reach the emulator, with allowed_hosts (--allow-host"
            " NAME)."
        )


def checked_host(name: str) -> str:
    """
    Return a host name or an address in the form in which `is_loopback` and the header
    ``Host`` have it.

    :param name: the name or the address.
    :raises AddressError: if it is neither.
    """
    host = name.strip("[]").lower()
    if not is_address(host) and not _HOST_NAME.fullmatch(host):
        raise AddressError(
            f"{name!r} is not a host name. Give a name such as sagemaker, without"
            " http:// and port."
        )
    return host


def is_loopback(name: str) -> bool:
    """Return whether a host name or an address never leaves this machine."""
    if is_address(name):
        return ipaddress.ip_address(name).is_loopback
    # Names below localhost never leave this machine (RFC 6761). S3 clients put the
    # bucket in front of it.
    return name == THIS_MACHINE or name.endswith(f".{THIS_MACHINE}")


def is_address(name: str) -> bool:
    """Return whether a text is an address, and not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
