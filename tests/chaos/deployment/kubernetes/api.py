"""
The server: the part of Kubernetes's API that Airflow's executor calls, on the loopback
interface.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeVar

import httpx
import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.chaos.deployment.kubernetes.pods import (
    ApiError,
    JsonObject,
    Pod,
    Pods,
    status,
)
from tests.chaos.deployment.kubernetes.requests import (
    MAX_BODY_BYTES,
    NAMESPACE,
    DeleteOptions,
    ListOptions,
    NewPod,
    PodPatch,
    Selector,
)
from tests.system.airflow.private_airflow import HOST, free_port
from tests.system.process.sessions import ProcessError, wait_until

START_TIMEOUT: Final = 30.0
_PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
_VERSION: Final = {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
_GROUPS: Final = {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
_RESOURCES: Final = {
    "kind": "APIResourceList",
    "groupVersion": "v1",
    "resources": [
        {
            "name": "pods",
            "singularName": "pod",
            "namespaced": True,
            "kind": "Pod",
            "verbs": ["create", "delete", "get", "list", "patch", "watch"],
        }
    ],
}
_Model = TypeVar("_Model", bound=BaseModel)


class LoopbackCluster:
    """
    Context manager that serves the API, and that kills all pods at its end.

    It requires a token, because whoever creates a pod runs a program as the user of the
    suite.

    :param folder: the folder to create, for the settings of its clients and for the
        output of the pods.
    :param environment: the environment of each pod.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(mode=0o700)
        self.pods = Pods(folder, environment)
        port, self._token = free_port(), secrets.token_hex()
        self._url = f"http://{HOST}:{port}"
        client_settings(folder).write_text(json.dumps(self._client_settings()))
        settings = uvicorn.Config(
            Starlette(routes=self._routes(), exception_handlers={ApiError: _failure}),
            host=HOST,
            port=port,
            loop="asyncio",
            http="h11",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(settings)
        self._thread = Thread(
            target=self._server.run, name="Kubernetes API", daemon=True
        )

    def __enter__(self) -> LoopbackCluster:
        self._thread.start()
        if not wait_until(lambda: self._server.started, timeout=START_TIMEOUT):
            raise ProcessError(
                f"The Kubernetes API did not start in {START_TIMEOUT:.0f} s"
            )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pods.kill()
        finally:
            self._server.should_exit = True
            self._thread.join()

    def evict(self, pod: Pod) -> None:
        """Ask for the end of a pod within its grace period, as an eviction does."""
        headers = {"Authorization": f"Bearer {self._token}"}
        with httpx.Client(trust_env=False, timeout=START_TIMEOUT) as client:
            client.delete(
                f"{self._url}{_PODS}/{pod.name}", headers=headers
            ).raise_for_status()

    def _client_settings(self) -> JsonObject:
        cluster = {"server": self._url}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "chaos", "cluster": cluster}],
            "users": [{"name": "chaos", "user": {"token": self._token}}],
            "contexts": [
                {"name": "chaos", "context": {"cluster": "chaos", "user": "chaos"}}
            ],
            "current-context": "chaos",
        }

    def _routes(self) -> list[Route]:
        return [
            self._route("GET", "/version", _constant(_VERSION)),
            self._route("GET", "/apis", _constant(_GROUPS)),
            self._route("GET", "/api/v1", _constant(_RESOURCES)),
            self._route("GET", _PODS, self._list),
            self._route("POST", _PODS, self._create),
            self._route("GET", f"{_PODS}/{{name}}", self._read),
            self._route("PATCH", f"{_PODS}/{{name}}", self._patch),
            self._route("DELETE", f"{_PODS}/{{name}}", self._delete),
        ]

    def _route(
        self, method: str, path: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Route:
        async def authorized(request: Request) -> Response:
            given = request.headers.get("Authorization", "").encode()
            if not secrets.compare_digest(given, f"Bearer {self._token}".encode()):
                raise ApiError(
                    401, "Unauthorized", "the token is missing, or another one"
                )
            return await answer(request)

        return Route(path, authorized, methods=[method])

    async def _list(self, request: Request) -> Response:
        options = _valid(ListOptions.model_validate, dict(request.query_params))
        labels, fields = (
            _valid(Selector, options.label_selector),
            _valid(Selector, options.field_selector),
        )
        if options.watch:
            changes = self.pods.watch(
                labels, options.resource_version, options.timeout_seconds
            )
            return StreamingResponse(_lines(changes), media_type="application/json")
        items, kind = self.pods.select(labels, fields), "PodList"
        if "as=PartialObjectMetadataList" in request.headers.get("Accept", ""):
            items, kind = (
                [{"metadata": pod["metadata"]} for pod in items],
                "PartialObjectMetadataList",
            )
        version = {"resourceVersion": str(self.pods.version)}
        return JSONResponse(
            {"kind": kind, "apiVersion": "v1", "metadata": version, "items": items}
        )

    async def _create(self, request: Request) -> Response:
        return JSONResponse(
            self.pods.create(await _body(request, NewPod)), status_code=201
        )

    async def _read(self, request: Request) -> Response:
        return JSONResponse(self.pods.get(request.path_params["name"]))

    async def _patch(self, request: Request) -> Response:
        patch = await _body(request, PodPatch)
        return JSONResponse(self.pods.patch(request.path_params["name"], patch))

    async def _delete(self, request: Request) -> Response:
        options = await _body(request, DeleteOptions)
        return JSONResponse(
            self.pods.delete(request.path_params["name"], options.grace_period_seconds)
        )


def client_settings(folder: Path) -> Path:
    """
    Return the file with the settings of the clients of the cluster with this folder, in
    the format of kubectl.
    """
    return folder / "kubeconfig"


async def _body(request: Request, model: type[_Model]) -> _Model:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(
                413,
                "RequestEntityTooLarge",
                f"the body has more than {MAX_BODY_BYTES} bytes",
            )
    return _valid(model.model_validate_json, bytes(body or b"{}"))


_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


def _valid(read: Callable[[_Input], _Output], given: _Input) -> _Output:
    try:
        return read(given)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
            for each in error.errors()
        )
        raise ApiError(422, "Invalid", "; ".join(problems)[:2000]) from None
    except ValueError as error:
        raise ApiError(400, "BadRequest", str(error)) from None


def _constant(content: Any) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return JSONResponse(content)

    return answer


async def _lines(events: AsyncIterator[JsonObject]) -> AsyncIterator[bytes]:
    async for event in events:
        yield json.dumps(event).encode() + b"\n"


async def _failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(
        status(error.status, error.reason, str(error)), status_code=error.status
    )
