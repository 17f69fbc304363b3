"""
Lets all clients of boto3 in a process call the emulator, also those whose program gives
an address of AWS.

The variable ``AWS_ENDPOINT_URL`` is enough for most programs. The SageMaker Python SDK,
however, gives its client of STS the address of AWS in the region, and an address in the
code has priority over the variable:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html. The SDK's
sessions are made from boto3's default session, so this module sets one that sends all
requests to the emulator, by botocore's event ``before-send``. It changes neither the
SDK nor boto3, and needs no package except boto3.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import boto3

_ANY = "emulated"
# They would choose other credentials.
_REMOVED: Final = ("AWS_PROFILE", "AWS_SESSION_TOKEN")


class RedirectedBoto3:
    """
    Context manager that replaces boto3's default session, and the environment variables
    of AWS's clients.

    ::

        with EmulatorServer() as emulator, RedirectedBoto3(emulator.endpoint_url):
            role = sagemaker.get_execution_role()

    The variables also concern other sessions of boto3, and processes that are started
    meanwhile. Create the sessions and clients of the SDK inside of it. At its end, the
    session and the variables are restored.

    :param endpoint_url: the URL of the emulator, such as ``http://127.0.0.1:4599``.
    :param region_name: the region of the default session.
    :raises ValueError: if ``endpoint_url`` is not an ``http://`` URL.
    """

    def __init__(self, endpoint_url: str, *, region_name: str = "us-east-1") -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(
                f"endpoint_url is {endpoint_url!r}; give the http:// URL of an emulator"
            )
        self._address = parts.netloc
        self._variables = {
            "AWS_ENDPOINT_URL": f"http://{parts.netloc}",
            "AWS_ACCESS_KEY_ID": _ANY,
            "AWS_SECRET_ACCESS_KEY": _ANY,
            "AWS_DEFAULT_REGION": region_name,
            "AWS_REGION": region_name,
        }
        self._before: tuple[dict[str, str | None], boto3.Session | None] | None = None

    def start(self) -> boto3.Session:
        """
        Redirect the clients from now on, for programs and notebooks that use the
        emulator until they end.

        :return: the default session. Give it to programs that take a session.
        :raises RuntimeError: if it has begun already.
        """
        import boto3
        from botocore.httpsession import URLLib3Session

        if self._before:
            raise RuntimeError("It has begun already; call stop() first")
        names = (*self._variables, *_REMOVED)
        self._before = (
            {name: os.environ.get(name) for name in names},
            boto3.DEFAULT_SESSION,
        )
        os.environ.update(self._variables)
        for name in _REMOVED:
            os.environ.pop(name, None)
        self._http = URLLib3Session()
        session = boto3.Session()
        session.events.register("before-send", self._redirect)
        boto3.DEFAULT_SESSION = session
        return session

    def stop(self) -> None:
        """
        Restore the default session and the variables, as they were before ``start``.
        """
        import boto3

        if not self._before:
            return
        variables, boto3.DEFAULT_SESSION = self._before
        self._before = None
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def __enter__(self) -> boto3.Session:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _redirect(self, request: Any, **_: Any) -> Any:
        """
        Send a signed request to the emulator, which does not check signatures, and
        return the response.

        The client itself would send it to the proxy of the host that it has been made
        for.
        """
        request.url = (
            urlsplit(request.url)._replace(scheme="http", netloc=self._address).geturl()
        )
        return self._http.send(request)
