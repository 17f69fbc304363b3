"""
The base hook: reads an Airflow connection and creates boto3 sessions and clients that
are signed in with it.

``hooks`` adds the SageMaker operations. ``LiveConnection`` is for a process that uses a
connection for a long time, and follows its changes.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook, SessionFactory
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    Connection,
    conf,
)
from botocore import xform_name
from botocore.config import Config
from botocore.parsers import ResponseParserError

from polysync_airflow import __version__, get_provider_info
from polysync_airflow.airflow_compat.supervisor import (
    call_airflow,
    is_missing,
    mask_secret,
)
from polysync_airflow.airflow_compat.teams import hint_at_hidden_connection
from polysync_airflow.auth import aws_settings
from polysync_airflow.auth.allow_list import AllowList, check_aws_connection
from polysync_airflow.auth.connection import (
    BaseCredentials,
    check_aws_region,
    masked_external_ids,
    parse_credentials,
)
from polysync_airflow.aws import responses
from polysync_airflow.aws.concurrent_calls import RETRY_TIMEOUT_SECONDS
from polysync_airflow.aws.regions import has_misspelt_region
from polysync_airflow.aws.sessions import SERVICES, prepare, reduce_models
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.execution import clock, json_input, waiter
from polysync_airflow.execution.texts import clean_text, did_you_mean

Response = dict[str, Any]

# Size of botocore's HTTP connection pool, and so the number of threads that can share a
# client. HTTP connections are opened when they are needed. An Airflow connection of
# type aws can set another size.
MAX_POOL_CONNECTIONS: Final = 32
# A VPC may have an endpoint for SageMaker and none for logs. A task that has ended must
# not wait for it.
REPORT_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
)

# What botocore and the amazon provider raise for settings, which they do not check.
_SETTING_ERRORS: Final = (
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def allow_list() -> AllowList:
    """Return what the deployment allows connections to name."""
    options = get_provider_info.get_provider_info()["config"][
        get_provider_info.CONFIG_SECTION
    ]["options"]

    def entries(section: str, name: str) -> tuple[str, ...]:
        text = conf.get(section, name, fallback=options[name]["default"])
        return tuple(entry.strip() for entry in text.split(",") if entry.strip())

    folders = entries(*get_provider_info.ALLOWED_IDENTITY_FOLDERS)
    return AllowList(
        folders=tuple(Path(folder) for folder in folders),
        hosts=entries(*get_provider_info.ALLOWED_ENDPOINT_HOSTS),
        applications=entries(*get_provider_info.ALLOWED_APPLICATIONS),
    )


class PolysyncBaseHook(AwsBaseHook):
    """
    Base class of ``PolysyncSageMakerHook``: the connection, its sign-in method, and the
    client.

    :param polysync_conn_id: id of an Airflow connection of type ``polysync_sagemaker``
        or ``aws``.
    :param region_name: AWS region; overrides the region of the connection.
    :param config: botocore settings; each overrides the setting of the connection.
    """

    conn_name_attr = "polysync_conn_id"
    default_conn_name = get_provider_info.DEFAULT_CONNECTION
    conn_type = "polysync_sagemaker"
    hook_name = "Polysync SageMaker"

    # The operations of SageMaker that the client must have; empty for all of them.
    client_operations: tuple[str, ...] = ()
    max_response_bytes = responses.MAX_RESPONSE_BYTES
    # The settings of the clients of other services than SageMaker.
    report_config = REPORT_CONFIG
    # How long one of many calls is retried while AWS cannot be reached, or fails.
    outage_seconds = RETRY_TIMEOUT_SECONDS

    def __init__(
        self,
        polysync_conn_id: str = get_provider_info.DEFAULT_CONNECTION,
        region_name: str | None = None,
        *,
        config: Config | None = None,
    ) -> None:
        super().__init__(
            aws_conn_id=polysync_conn_id,
            region_name=region_name,
            client_type="sagemaker",
        )
        self.polysync_conn_id = polysync_conn_id
        self._config_overrides = config
        self._client_lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._read: Connection | None = None

    @property
    def _connection(self) -> Connection:
        # Not a cached_property: before Python 3.12, all hooks share its lock, and a
        # read may hang.
        if self._read is None:
            self._read = self._read_connection()
        return self._read

    def _read_connection(self) -> Connection:
        if not self.polysync_conn_id or not isinstance(self.polysync_conn_id, str):
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} is not a connection id:"
                " give the id of a polysync_sagemaker or aws connection. The"
                " credentials of the host are never used by default."
            )
        try:
            connection = self.get_connection(self.polysync_conn_id)
        except AirflowNotFoundException as error:
            # Not permanent: Airflow raises the same error if a secrets backend does not
            # respond.
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r}: there is no such"
                " connection. Add it under Admin > Connections with the type Polysync"
                " SageMaker, set the environment variable"
                f" AIRFLOW_CONN_{self.polysync_conn_id.upper()}, or correct the id."
                f"{hint_at_hidden_connection()}",
                permanent=False,
            ) from error
        types = self.conn_type, AwsBaseHook.conn_type
        if connection.conn_type not in types:
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} is a connection of type"
                f" {connection.conn_type!r}; it must be {self.conn_type!r} or"
                f" {AwsBaseHook.conn_type!r}."
                f"{did_you_mean(str(connection.conn_type), types)}"
            )
        self._check_extra(connection)
        return connection

    def _check_extra(self, connection: Connection) -> None:
        """
        Check that the extra of a connection is a JSON object.

        Airflow takes what is not JSON for no extra at all, and fails with a
        RecursionError at what is nested too deeply.
        """
        if not connection.extra:
            return
        subject = f"The extra of the connection {self.polysync_conn_id!r}"
        try:
            extra = json_input.read_json(connection.extra, subject)
        except json_input.UnreadableJsonError as error:
            raise CredentialsError(
                f"{error}. Correct it under Admin > Connections."
            ) from None
        if not isinstance(extra, dict):
            raise CredentialsError(
                f"{subject} is a JSON {type(extra).__name__}: give a JSON object with"
                " the fields of the sign-in method."
            )

    @cached_property
    def credentials(self) -> BaseCredentials | None:
        """The parsed fields of the connection; None for an ``aws`` connection."""
        connection = self._connection
        if connection.conn_type == AwsBaseHook.conn_type:
            return None
        # Airflow masks the secrets in it.
        extra = call_airflow(lambda: connection.extra_dejson)
        fields = extra | {
            "access_key_id": connection.login,
            "secret_access_key": connection.password,
        }
        if self._region_name:
            fields["region_name"] = self._region_name
        credentials = parse_credentials(fields, connection_id=self.polysync_conn_id)
        for secret in credentials.secrets:
            # Airflow has masked the password when it returned the connection.
            if secret != connection.password:
                mask_secret(secret)
        return credentials

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        """
        The settings of the amazon provider's base hook. A missing connection is an
        error, unlike there.
        """
        if self.credentials is None:
            wrapper = self._checked_aws_connection()
        else:
            settings = self.credentials.model_dump(
                include={"region_name", "endpoint_url", "verify"}
            )
            wrapper = AwsConnectionWrapper.from_connection_metadata(
                self.polysync_conn_id, extra=settings
            )
        config = Config(
            retries={"mode": "standard"},
            user_agent_extra=f"polysync-airflow/{__version__}",
            max_pool_connections=MAX_POOL_CONNECTIONS,
            connect_timeout=aws_settings.CONNECT_TIMEOUT_SECONDS,
            read_timeout=aws_settings.READ_TIMEOUT_SECONDS,
        )
        if wrapper.botocore_config:
            config = config.merge(aws_settings.bounded(wrapper.botocore_config))
        if self._config_overrides:
            config = config.merge(self._config_overrides)
        wrapper.botocore_config = config
        return wrapper

    def _checked_aws_connection(self) -> AwsConnectionWrapper:
        """
        Return the settings of an ``aws`` connection, once its regions, hosts, files and
        settings of botocore are checked.
        """
        extra = call_airflow(lambda: self._connection.extra_dejson)
        aws_settings.check_aws_settings(extra, connection_id=self.polysync_conn_id)
        for external_id in masked_external_ids(aws_settings.aws_external_id(extra)):
            mask_secret(external_id)
        try:
            wrapper = call_airflow(
                lambda: AwsConnectionWrapper(
                    conn=self._connection, region_name=self._region_name
                )
            )
        except (*_SETTING_ERRORS, *responses.BOTO_ERRORS) as error:
            raise _invalid_setting(self.polysync_conn_id, error) from None
        regions = {
            "region_name": wrapper.region_name,
            "config_kwargs.region_name": getattr(
                wrapper.botocore_config, "region_name", None
            ),
        }
        for field, region in regions.items():
            if region not in (None, ""):
                check_aws_region(
                    region, field=field, connection_id=self.polysync_conn_id
                )
        # Whoever edits connections could otherwise avoid the lists by another type.
        try:
            check_aws_connection(wrapper.extra_config, allow_list())
        except CredentialsError as error:
            message = f"The connection {self.polysync_conn_id!r} is not usable: {error}"
            raise CredentialsError(message) from None
        return wrapper

    def has_same_connection(self, other: PolysyncBaseHook | None) -> bool:
        """
        Read the connection, and return whether it has the same content as when another
        hook read it.

        :param other: a hook with the same connection id; None if no hook has read it.
        :raises CredentialsError: if the connection cannot be read.
        """
        own_connection = self._connection
        if other is None:
            return False
        content = attrgetter(
            "conn_type", "login", "password", "extra", "host", "port", "schema"
        )
        return bool(content(own_connection) == content(other._connection))

    def get_session(
        self, region_name: str | None = None, deferrable: bool = False
    ) -> boto3.session.Session:
        """Return a boto3 session that is signed in with the connection."""
        if self.credentials is not None:
            session = self.credentials.session(allow_list())
        else:
            session = _create_aws_session(
                self.conn_config, region_name, self.max_response_bytes
            )
        if not session.region_name:
            raise CredentialsError(
                "No region: set region_name in the extra of the connection"
                f" {self.polysync_conn_id!r}, or pass region_name to the operator."
            )
        responses.limit_responses(session._session, self.max_response_bytes)
        if self.client_operations:
            reduce_models(session._session, {"sagemaker": self.client_operations})
        return session

    def get_caller_identity(self) -> dict[str, Any]:
        """
        Call STS GetCallerIdentity.

        https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html

        :raises CredentialsError: if the sign-in fails, or STS does not respond.
        """
        with self._signing_in():
            client = self._client_of("sts", self._get_config())
            response: dict[str, Any] = client.get_caller_identity()
            for member in ("Arn", "Account"):
                if not isinstance(response.get(member), str):
                    raise ResponseParserError("the response of STS has no identity")
        return response

    def client_for(self, service: str) -> Any:
        """
        Return the client for another service than SageMaker, such as ``s3``, signed in
        with the connection.

        :raises CredentialsError: if the sign-in fails.
        """
        if service not in self._clients:
            self._clients[service] = self._report_client(service)
        return self._clients[service]

    def _report_client(self, service: str) -> Any:
        with self._signing_in():
            config = self._get_config().merge(self.report_config)
            return self._client_of(service, config)

    def _client_of(self, service: str, config: Config) -> Any:
        endpoint = self._endpoint_of(service)
        session: Any = self.get_session(self.region_name)
        return session.client(
            service, endpoint_url=endpoint, config=config, verify=self.verify
        )

    def _endpoint_of(self, service: str) -> str | None:
        """Return the URL of a service other than SageMaker; None for that of AWS."""
        if self.credentials and service == "sts":
            return self.credentials.sts_endpoint_url
        if self.credentials:
            return self.credentials.other_endpoint_url
        endpoint: str | None = self.conn_config.get_service_endpoint_url(service)
        if endpoint and service not in SERVICES:
            # The endpoints of those are checked with the connection.
            allow_list().check_endpoint(
                endpoint, field=f"service_config.{service}.endpoint_url"
            )
        return endpoint

    @property
    def auth_description(self) -> str:
        """The sign-in method of the connection, for messages."""
        if self.credentials is None:
            return "an aws connection"
        return self.credentials.auth_description

    @property
    def credentials_expire_at(self) -> datetime | None:
        """
        The time at which the current credentials expire, unless refreshed; None if it
        is not known.
        """
        credentials = self.get_session(self.region_name).get_credentials()
        expiry: datetime | None = getattr(credentials, "_expiry_time", None)
        if expiry is None:
            return None
        return expiry.astimezone(UTC)

    @property
    def max_pool_connections(self) -> int:
        """
        The number of calls that can run at the same time and reuse HTTP connections.
        """
        return int(self._signed_in_client.meta.config.max_pool_connections)

    @property
    def execution_role_arn(self) -> str | None:
        """The role of the connection for executions; None if it names none."""
        if self.credentials is None:
            return None
        return self.credentials.execution_role_arn

    @property
    def client_region(self) -> str:
        """
        The AWS region of the client: that of the operator, of the connection, or of the
        host.
        """
        return str(self._signed_in_client.meta.region_name)

    @property
    def _signed_in_client(self) -> Any:
        # Since Python 3.12, cached_property has no lock: each thread that uses the hook
        # for the first time would make a client of its own.
        with self._signing_in(), self._client_lock:
            return self._client

    @contextmanager
    def _signing_in(self) -> Iterator[None]:
        """Raise the errors of a sign-in as ``CredentialsError``."""
        try:
            yield
        except responses.BOTO_ERRORS as error:
            problem = f"Could not sign in with the connection {self.polysync_conn_id!r}"
            if responses.is_invalid_value(error):
                reason = responses.invalid_value_error("The sign-in")
                raise CredentialsError(f"{problem}: {reason}") from None
            hint = responses.hint_of(error, getattr(error, "operation_name", ""))
            raise CredentialsError(
                f"{problem}: {responses.text_with_cure(error)}",
                permanent=hint.permanent or has_misspelt_region(error),
                transient=responses.is_transient(error, hint),
            ) from None
        except _SETTING_ERRORS as error:
            raise _invalid_setting(self.polysync_conn_id, error) from None
        except OSError as error:
            # The first client reads files of botocore. The next one may be able to.
            raise CredentialsError(
                f"Could not sign in with the connection {self.polysync_conn_id!r}:"
                f" {clean_text(str(error))}{_host_cure(error)}",
                permanent=False,
                transient=True,
            ) from None

    # ---- the calls of all operations

    def call(self, operation: str, **request: Any) -> Response:
        """
        Call a SageMaker operation.

        :param operation: name of the operation as AWS spells it, such as
            ``DescribePipeline``.
        :param request: the members of the request. Those that are None are left out.
        :return: the response.
        :raises SageMakerApiError: the call failed. The message says what to do.
        :raises CredentialsError: the connection cannot sign in.
        """
        members = {
            member: value for member, value in request.items() if value is not None
        }
        return self._call_client(self._signed_in_client, operation, **members)

    def call_logs(self, operation: str, **request: Any) -> Response:
        """Call an operation of CloudWatch Logs. The errors are those of ``call``."""
        return self._call_client(self.client_for("logs"), operation, **request)

    def call_pricing(self, **request: Any) -> Response:
        """Call GetProducts of AWS's price list. The errors are those of ``call``."""
        return self._call_client(self.client_for("pricing"), "GetProducts", **request)

    def read_object(self, uri: str, limit: int) -> bytes:
        """
        Read the beginning of an object of S3.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html

        :param uri: ``s3://<bucket>/<key>``.
        :param limit: how many bytes to read at most.
        :raises SageMakerApiError: the call failed.
        """
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        request = {"Bucket": bucket, "Key": key}
        client = self.client_for("s3")
        with self._mapped_errors(client, "GetObject", request):
            response = client.get_object(**request)
            with closing(response["Body"]) as body:
                content: bytes = body.read(limit)
        return content

    def _call_client(self, client: Any, operation: str, **request: Any) -> Response:
        with self._mapped_errors(client, operation, request):
            response: Response = getattr(client, xform_name(operation))(**request)
        return response

    @contextmanager
    def _mapped_errors(
        self, client: Any, operation: str, request: Mapping[str, Any]
    ) -> Iterator[None]:
        try:
            yield
        except responses.BOTO_ERRORS as error:
            # A log shows causes as they are: botocore's has AWS's text, or a value that
            # may be a secret.
            raise responses.map_error(
                error,
                operation,
                request,
                region=self.region_name,
                partition=client.meta.partition,
            ) from None


def _create_aws_session(
    settings: AwsConnectionWrapper, region_name: str | None, max_response_bytes: int
) -> boto3.session.Session:
    """
    Make the boto3 session that the amazon provider makes of an ``aws`` connection.

    :param settings: the connection, which was checked.
    :param max_response_bytes: the size of a response, also of STS.
    :raises CredentialsError: a setting is not valid, or needs a library that is not
        installed.
    """
    try:
        factory = SessionFactory(
            conn=settings, region_name=region_name, config=settings.botocore_config
        )
        # boto3 has no public attribute for the botocore session; the amazon provider
        # uses this one too. The basic session asks STS for the role of the connection.
        # Without a role, it is the one that is returned.
        basic_session = factory.basic_session._session
        prepare(basic_session)
        responses.limit_responses(basic_session, max_response_bytes)
        session = factory.create_session()
        if session is not factory.basic_session:
            prepare(session._session)
        return session
    except responses.BOTO_ERRORS:
        # Some of them are ValueErrors, too.
        raise
    except (AirflowException, ImportError, *_SETTING_ERRORS) as error:
        raise _invalid_setting(settings.conn_id, error) from None


def _host_cure(error: OSError) -> str:
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return ""
    return responses.what_to_do(
        "this process or host has no file descriptor left: raise its limit (ulimit -n,"
        " LimitNOFILE), or let it run less at once."
    )


def _invalid_setting(connection_id: object, error: Exception) -> CredentialsError:
    """
    Return the error for a setting that botocore or the amazon provider has refused in
    its own way.
    """
    return CredentialsError(
        f"The connection {connection_id!r} has a setting that cannot be used here:"
        f" {type(error).__name__}: {clean_text(str(error))}. Correct its extra, or"
        " install what it needs."
    )


log = logging.getLogger(__name__)

Hook = TypeVar("Hook", bound=PolysyncBaseHook)
Result = TypeVar("Result")

# How often the Airflow connection is read, and how soon again after a read that failed.
# Each read takes several requests to Airflow. A call that AWS refuses reads it at
# once.
READ_SECONDS: Final = 60.0
READ_RETRY_SECONDS: Final = 7.0
# How often at most it is read because of failed calls, however many waits have them.
MIN_READ_SECONDS: Final = 5.0


class LiveConnection(Generic[Hook]):
    """
    Calls AWS with the fields of a connection that were read last. Thread-safe.

    Its user calls ``read`` when that is due. While the connection cannot be read, calls
    use what was read before: Airflow's API server may be restarted without any effect
    on them.

    :param make_hook: returns a new hook with the connection, which has not read it yet.
    :param read_seconds: how often the connection is read.
    """

    def __init__(
        self,
        connection_id: str,
        make_hook: Callable[[], Hook],
        *,
        read_seconds: float | None = None,
    ) -> None:
        self._id = connection_id
        self._make_hook = make_hook
        self._read_seconds = READ_SECONDS
        if read_seconds is not None:
            self._read_seconds = read_seconds
        # Held while the connection is read. Calls do not take it: a slow read does not
        # delay them.
        self._lock = threading.Lock()
        self._hook: Hook | None = None
        self._read_at = clock.monotonic()
        # The error of the last read, if that failed.
        self._error: PolysyncError | None = None
        self._deletion = waiter.Deletion(
            connection_id, hint=hint_at_hidden_connection()
        )

    @property
    def hook(self) -> Hook:
        """
        The hook; a new one if the connection has changed.

        :raises PolysyncError: if the connection has never been read.
        """
        return self._hook or self._first_hook()

    @property
    def seconds_until_read(self) -> float:
        """The seconds until ``read`` is due; negative if it is overdue."""
        if self._error:
            return READ_RETRY_SECONDS - self._seconds_since_read
        return self._read_seconds - self._seconds_since_read

    def read(self) -> CredentialsError | None:
        """
        Read the connection, and use it for the next calls if it has changed. Not for an
        event loop.

        :return: an error if the connection has been deleted.
        """
        with self._lock:
            self._read()
            return self._deletion.error

    def call(self, call: Callable[[Hook], Result]) -> Result:
        """
        Make a call. It is repeated once with the new connection if it fails, and the
        connection has changed.

        :raises PolysyncError: the call failed; or the connection was deleted, or has
            never been read.
        """
        deletion = self._deletion.error
        if deletion:
            raise deletion.with_traceback(None)
        hook = self.hook
        try:
            return call(hook)
        except PolysyncError as error:
            # A person who repairs or rotates a connection expects that running waits
            # use it.
            if error.transient or not self._has_changed_from(hook):
                raise
        return call(self.hook)

    def _first_hook(self) -> Hook:
        with self._lock:
            # All users share a read that fails, too.
            has_just_failed = (
                self._error is not None and self._seconds_since_read <= MIN_READ_SECONDS
            )
            if self._hook is None and not has_just_failed:
                self._read()
            if self._hook is None:
                raise cast("PolysyncError", self._error).with_traceback(None)
            return self._hook

    def _has_changed_from(self, hook: Hook) -> bool:
        with self._lock:
            if self._hook is hook and self._seconds_since_read > MIN_READ_SECONDS:
                self._read()
            return self._hook is not hook

    @property
    def _seconds_since_read(self) -> float:
        return clock.monotonic() - self._read_at

    def _read(self) -> None:
        error = None
        is_deleted = False
        try:
            error = self._try_to_read()
            if error and isinstance(error.__cause__, AirflowNotFoundException):
                is_deleted = call_airflow(lambda: is_missing(self._id))
        finally:
            self._read_at = clock.monotonic()
        if is_deleted:
            self._deletion.note_missing(self._read_at)
        else:
            self._deletion.begin_anew()
        # One line for an outage, not one for each read.
        if error and not self._error:
            log.warning(
                "Connection %r cannot be read now, retrying: %s", self._id, error
            )
        elif self._error and not error:
            log.info("Connection %r can be read again.", self._id)
        self._error = error

    def _try_to_read(self) -> PolysyncError | None:
        """
        Use a new hook if the connection has changed.

        :return: the error if it cannot be read.
        """
        hook = self._make_hook()
        try:
            is_same = call_airflow(lambda: hook.has_same_connection(self._hook))
        except PolysyncError as error:
            return error
        except Exception as error:
            # For example, the API server refuses the request. Whatever it is, the next
            # read may succeed.
            return CredentialsError(
                f"polysync_conn_id = {self._id!r}: Airflow does not return the"
                f" connection: {type(error).__name__}: {clean_text(str(error))}",
                permanent=False,
            )
        if is_same:
            return None
        if self._hook is not None:
            log.info(
                "Connection %r has changed: the new one is used from now on.", self._id
            )
        self._hook = hook
        return None
