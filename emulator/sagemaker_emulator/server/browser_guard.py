"""
Refuses requests that a web page sends.

The emulator listens on the loopback interface, which every page in a browser on this
host can reach. A page of another origin could reset the emulator, or read from it after
it has rebound its own host name to 127.0.0.1. So the header ``Host`` must name this
machine, or a host that whoever runs the emulator allows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from werkzeug.wrappers import Request, Response

from sagemaker_emulator.server.addresses import (
    THIS_MACHINE,
    checked_host,
    is_address,
    is_loopback,
)

_OWN_SITES = ("", "none", "same-origin")
_WITH_CONTENT = ("POST", "PUT", "PATCH")
_PORT: Final = re.compile(r":\d*$", re.ASCII)


class BrowserGuard:
    """
    Decides which requests are refused.

    :param allowed_hosts: the names or addresses of this host in a network of
        containers, without port.
    :raises AddressError: if one of them is no host name.
    """

    def __init__(self, allowed_hosts: Iterable[str] = ()) -> None:
        self._allowed = tuple(checked_host(name) for name in allowed_hosts)

    def refuse(self, request: Request) -> Response | None:
        """
        Return the response to a request that is refused; None if the request may be
        processed.
        """
        host = request.headers.get("Host", "")
        name = _name_in(host)
        if not is_loopback(name) and self._allowed_in(name) is None:
            return _forbidden(
                f"Host: {host[:100]} is not this machine. Use http://127.0.0.1:<port>,"
                " or start the emulator with --allow-host <name>."
            )
        if (
            "Origin" in request.headers
            or request.headers.get("Sec-Fetch-Site", "") not in _OWN_SITES
        ):
            return _forbidden("requests from web pages are not accepted")
        return None

    def refuse_control(self, request: Request) -> Response | None:
        """
        Return the response to a request to the control API that is refused; None if it
        may be processed. The control API accepts only JSON as content.
        """
        refusal = self.refuse(request)
        if refusal:
            return refusal
        if request.method in _WITH_CONTENT and request.mimetype != "application/json":
            return _forbidden(
                "the control API needs the header Content-Type: application/json"
            )
        return None

    def local_host(self, host: str) -> str:
        """
        Return a header ``Host`` in the form in which moto finds the bucket in it.

        moto takes the first label of every other name with a dot for a bucket.

        :param host: the header of a request that is not refused.
        """
        name = _name_in(host)
        allowed = self._allowed_in(name)
        if allowed is None or is_address(name):
            return host
        local_name = f"{name.removesuffix(allowed)}{THIS_MACHINE}"
        port = _PORT.search(host)
        if port is None:
            return local_name
        return f"{local_name}{port[0]}"

    def _allowed_in(self, name: str) -> str | None:
        """
        Return which allowed host a name is, or is below: S3 clients put the bucket in
        front of it.
        """
        for host in self._allowed:
            if name == host or name.endswith(f".{host}"):
                return host
        return None


def _name_in(host: str) -> str:
    """
    Return the name or the address in a header ``Host``, in lower case and without port.
    """
    return _PORT.sub("", host).strip("[]").lower()


def _forbidden(reason: str) -> Response:
    return Response(json.dumps({"error": reason}), 403, content_type="application/json")
