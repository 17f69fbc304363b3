"""
Refuses requests that a web page sends.

The emulator listens on the loopback interface, which every page in a browser on this host can reach. A page
of another origin could reset the emulator, or read from it after it has rebound its own host name to
127.0.0.1.
"""

from __future__ import annotations

import ipaddress
import json

from werkzeug.wrappers import Request, Response

_OWN_SITES = ("", "none", "same-origin")
_WITH_CONTENT = ("POST", "PUT", "PATCH")


def refuse(request: Request, *, control: bool) -> Response | None:
    """
    Return the response to a request that is refused; None if the request may be processed.

    :param request: the request.
    :param control: whether it is a request to the control API, whose content must be JSON.
    """
    host = request.headers.get("Host", "")
    if not _is_loopback(host):
        return _forbidden(f"Host: {host[:100]} is not this machine. Use http://127.0.0.1:<port>.")
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "") not in _OWN_SITES:
        return _forbidden("requests from web pages are not accepted")
    if control and request.method in _WITH_CONTENT and request.mimetype != "application/json":
        return _forbidden("the control API needs the header Content-Type: application/json")
    return None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        # Names below localhost never leave this machine (RFC 6761). S3 clients put the bucket in front of it.
        return name == "localhost" or name.endswith(".localhost")


def _forbidden(reason: str) -> Response:
    return Response(json.dumps({"error": reason}), 403, content_type="application/json")
