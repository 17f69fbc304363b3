"""
Runs moto behind the emulator: its unmodified WSGI app, and what pipelines read from and
write to its services (S3 objects with definitions and property files, log events, model
packages).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial, wraps
from inspect import signature
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from botocore import xform_name
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    create_backend_app,
)
from moto.s3.models import FakeAcl, FakeGrant, FakeGrantee, get_canned_acl, s3_backends
from werkzeug.exceptions import NotFound
from werkzeug.test import Client

from sagemaker_emulator.errors import invalid
from sagemaker_emulator.sagemaker.calls import LogStream, ServiceEvent
from sagemaker_emulator.sagemaker.jobs.model_packages import MEMBERS_BESIDE_MOTO
from sagemaker_emulator.sagemaker.store import ACCOUNT, partition
from sagemaker_emulator.server.event_bus import (
    ModelPackageEvents,
    deliver,
    timestamp_of,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_LOG = logging.getLogger(__name__)
_Write = TypeVar("_Write", bound=Callable[..., Any])
# The services that a pipeline or its test needs. Other services of moto do more than to
# keep state: its Lambda, for example, runs containers.
MOTO_SERVICES = frozenset(
    {"events", "iam", "kms", "logs", "s3", "sagemaker", "sqs", "sts"}
)
# Its apps that may respond: those of these services, which have some operations at
# addresses of their own.
_BACKENDS = MOTO_SERVICES | {"s3control", "sagemakermetrics", "sagemakerruntime"}
_SKIPPED_VALIDATION = ("All", "None")
_APPROVAL_STATUSES = ("Approved", "Rejected", "PendingManualApproval")
_PRIVATE = get_canned_acl("private")
_ACL_MODELS: tuple[Any, ...] = (FakeAcl, FakeGrant, FakeGrantee)
# moto selects the service by the credential scope and does not verify the signature.
_S3_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=emulator/20000101/us-east-1/s3/aws4_request,"
    " SignedHeaders=host, Signature=0"
)


def _create_app(service: Any) -> Any:
    """
    Return moto's app of a service, or one that finds nothing.

    moto itself decides by path, host and signature which service a request is for, in
    other ways than the router.
    """
    if service in _BACKENDS:
        return create_backend_app(service)
    return NotFound()


def _tolerant(write: _Write) -> _Write:
    """
    Make a method that returns None if moto refuses what a step writes.

    moto may raise anything for a value that it does not expect. Without this, one step
    would let the requests of all clients fail, because each of them writes what is due.
    """

    @wraps(write)
    def write_or_warn(*args: Any) -> Any:
        try:
            return write(*args)
        except Exception:
            _LOG.warning("moto refuses what a step writes", exc_info=True)
            return None

    return cast("_Write", write_or_warn)


class Moto:
    """
    moto's WSGI app. moto keeps its state in the process, so run only one emulator per
    process.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(_create_app)
        self._internal_app = create_backend_app("moto_api")
        self._lock = Lock()
        # The number of events that were written to each log stream.
        self._written: dict[tuple[str, str, str], int] = {}
        self._model_packages = ModelPackageEvents()
        # moto cannot delete a model package, and counts the versions of a group by its
        # packages.
        self._deleted: set[tuple[str, str]] = set()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        response_body: Iterable[bytes] = self._app(environ, start_response)
        return response_body

    def has_region(self, name: str) -> bool:
        """Return whether AWS has a region with this name."""
        return name in get_backend("sagemaker")[ACCOUNT]

    def reset(self) -> None:
        """Remove all resources of all services."""
        with self._lock:
            self._written.clear()
            self._deleted.clear()
        self._model_packages.reset()
        Client(self._internal_app).post("/moto-api/reset").close()

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """
        Return the content of an S3 object.

        :param bucket: the bucket.
        :param key: the key of the object.
        :param version: the version id; None for the latest version.
        :raises ApiError: ValidationException if the object cannot be read.
        """
        query = {}
        if version:
            query["versionId"] = version
        path = f"/{quote(bucket)}/{quote(key)}"
        headers = {"Authorization": _S3_AUTHORIZATION}
        with Client(self._app).get(
            path, query_string=query, headers=headers
        ) as response:
            if response.status_code != 200:
                raise invalid(
                    f"Unable to read s3://{bucket}/{key} (HTTP {response.status_code})."
                )
            return response.get_data()

    @_tolerant
    def create_bucket(self, region: str, bucket: str) -> None:
        """Create an S3 bucket, if no account has it."""
        if bucket not in s3_backends.bucket_accounts:
            s3_backends[ACCOUNT][partition(region)].create_bucket(bucket, region)

    @_tolerant
    def put_object(self, region: str, bucket: str, key: str, content: bytes) -> None:
        """Write an S3 object to a bucket of the emulator's own account."""
        backend = s3_backends[ACCOUNT][partition(region)]
        backend.put_object(bucket, key, content).acl = _PRIVATE
        # Otherwise, moto keeps a copy of it for each object.
        for model in _ACL_MODELS:
            model.instances_tracked.clear()

    @_tolerant
    def create_model_package(
        self, region: str, request: Mapping[str, Any], created_at: float
    ) -> str | None:
        """
        Create a model package, and its group if it does not exist.

        :param region: the AWS region.
        :param request: the arguments of a RegisterModel step, which are those of
            CreateModelPackage.
        :param created_at: the creation time, as Unix time.
        :return: the ARN of the model package; None if moto refuses it.
        """
        backend = get_backend("sagemaker")[ACCOUNT][region]
        given = {xform_name(member): value for member, value in request.items()}
        # moto keeps these members. A RegisterModel step has the same ones.
        kept = signature(backend.create_model_package).parameters
        members: dict[str, Any] = {name: given.get(name) for name in kept}
        group = members["model_package_group_name"]
        if members["model_approval_status"] not in _APPROVAL_STATUSES:
            members["model_approval_status"] = None
            if group:
                # Only versions of a group are approved.
                members["model_approval_status"] = "PendingManualApproval"
        if group and group not in backend.model_package_groups:
            backend.create_model_package_group(group, "")
        arn: str = backend.create_model_package(**members)
        package: Any = backend.model_packages[arn]
        # moto knows the real time only.
        package.creation_time = datetime.fromtimestamp(created_at, UTC)
        # moto describes it, but does not take it.
        if request.get("SkipModelValidation") in _SKIPPED_VALIDATION:
            package.skip_model_validation = request["SkipModelValidation"]
        # moto neither takes nor describes them. An update sets attributes with these
        # names, too.
        for name in MEMBERS_BESIDE_MOTO:
            if name in request:
                setattr(package, xform_name(name), request[name])
        package.gen_response_object = partial(
            _described, package, package.gen_response_object
        )
        return arn

    def models(self, region: str) -> list[str]:
        """Return the names of the models that clients have created."""
        models = get_backend("sagemaker")[ACCOUNT][region].list_models()
        return [model.model_name for model in models]

    def model_packages(self, region: str) -> list[dict[str, Any]]:
        """
        Return the descriptions of all model packages, with times as Unix time.
        """
        packages = get_backend("sagemaker")[ACCOUNT][region].model_packages
        return [
            _with_timestamps(package.gen_response_object())
            for arn, package in list(packages.items())
            if (region, arn) not in self._deleted
        ]

    def has_model_package_group(self, region: str, name: str) -> bool:
        """Return whether there is a model package group."""
        return name in get_backend("sagemaker")[ACCOUNT][region].model_package_groups

    def update_model_package(
        self, region: str, arn: str, members: Mapping[str, Any], at: float
    ) -> None:
        """
        Set members of the description of a model package.

        :param region: the AWS region.
        :param members: the members that DescribeModelPackage returns.
        :param at: the time of the change, as Unix time.
        """
        package = get_backend("sagemaker")[ACCOUNT][region].model_packages[arn]
        for name, value in members.items():
            setattr(package, xform_name(name), value)
        package.last_modified_time = datetime.fromtimestamp(at, UTC)

    def delete_model_package(self, region: str, arn: str) -> None:
        """Delete a model package."""
        self._deleted.add((region, arn))

    @_tolerant
    def send_message(self, region: str, queue: str, body: str) -> None:
        """
        Send a message to a queue of the emulator's own account, which is created if it
        does not exist.
        """
        backends = get_backend("sqs")[ACCOUNT]
        if region not in backends:
            return
        if queue not in backends[region].queues:
            backends[region].create_queue(queue)
        backends[region].send_message(queue, body)

    @_tolerant
    def put_log_events(self, region: str, stream: LogStream) -> None:
        """
        Write the events of a log stream that it does not have yet.

        PutLogEvents refuses events that are more than two hours in the future or 14
        days in the past of the real time. Emulated times can be, so this method writes
        to moto's log group itself.

        :param region: the AWS region.
        :param stream: the stream with all its events so far.
        """
        key = (region, stream.group, stream.name)
        with self._lock:
            written = self._written.get(key, 0)
            events = [
                {"timestamp": int(time * 1000), "message": message}
                for time, message in stream.events[written:]
            ]
            if not events:
                return
            self._written[key] = len(stream.events)
            backend = get_backend("logs")[ACCOUNT][region]
            if stream.group not in backend.groups:
                backend.create_log_group(stream.group, {})
            backend.ensure_log_stream(stream.group, stream.name)
            backend.groups[stream.group].put_log_events(stream.name, events)

    def model_package_events(self, region: str, now: float) -> list[ServiceEvent]:
        """
        Return the events of model packages that are new or changed since the last call.
        """
        if not self.has_region(region):
            return []
        return self._model_packages.unsent(region, now)

    def has_event_rules(self, region: str) -> bool:
        """Return whether the default event bus of a region has a rule."""
        backends = get_backend("events")[ACCOUNT]
        if region not in backends:
            return False
        return bool(backends[region].event_buses["default"].rules)

    @_tolerant
    def send_event(self, region: str, event: ServiceEvent) -> None:
        """Send an event of SageMaker to the rules of the default event bus."""
        deliver(region, event)


def _described(package: Any, by_moto: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return moto's description of a model package and the members that moto lacks."""
    description = {**by_moto()}
    for name in MEMBERS_BESIDE_MOTO:
        value = getattr(package, xform_name(name), None)
        if value is not None:
            description[name] = value
    return description


def _with_timestamps(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of moto's with its times as Unix time."""
    times = {
        name: timestamp_of(value)
        for name, value in description.items()
        if isinstance(value, datetime)
    }
    return {**description, **times}
