"""Owns how an Airflow connection becomes a client that is signed in to AWS."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret
from botocore.config import Config
from botocore.exceptions import ClientError

from polysync_airflow import __version__
from polysync_airflow.auth.connection import parse_credentials
from polysync_airflow.auth.credentials import BaseCredentials
from polysync_airflow.aws.error_mapping import BOTO_ERRORS, BotoError, is_transient
from polysync_airflow.aws.sessions import optimize_parsing
from polysync_airflow.exceptions import UNKNOWN_HINT, CredentialsError, hint_for
from polysync_airflow.get_provider_info import ALLOWED_IDENTITY_FOLDERS, DEFAULT_IDENTITY_FOLDERS

if TYPE_CHECKING:
    import boto3
    from airflow.sdk import Connection

# Connections that a client keeps open for its next calls, and so how many threads can share it. They are
# made when they are needed; a connection of type aws may name another number.
MAX_POOL_CONNECTIONS: Final = 32


def allowed_identity_folders() -> tuple[Path, ...]:
    """The folders under which a connection may name files: tokens, certificates, authorities."""
    told = conf.get(*ALLOWED_IDENTITY_FOLDERS, fallback=DEFAULT_IDENTITY_FOLDERS)
    return tuple(Path(folder.strip()) for folder in told.split(",") if folder.strip())


class PolysyncBaseHook(AwsBaseHook):
    """
    The part of the hook that knows connections.

    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws``.
    :param region_name: AWS region; goes before the connection's.
    :param config: settings of botocore; each goes before the connection's.
    """

    conn_name_attr = "polysync_conn_id"
    default_conn_name = "polysync_default"
    conn_type = "polysync_sagemaker"
    hook_name = "Polysync SageMaker"

    def __init__(
        self,
        polysync_conn_id: str = "polysync_default",
        region_name: str | None = None,
        *,
        config: Config | None = None,
    ) -> None:
        super().__init__(aws_conn_id=polysync_conn_id, region_name=region_name, client_type="sagemaker")
        self.polysync_conn_id = polysync_conn_id
        self._overrides = config

    @cached_property
    def _connection(self) -> Connection:
        if not self.polysync_conn_id or not isinstance(self.polysync_conn_id, str):
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} names no connection: give the id of a "
                "polysync_sagemaker or aws connection. The host's own credentials are never used by default."
            )
        try:
            connection = self.get_connection(self.polysync_conn_id)
        except AirflowNotFoundException as error:
            # Not permanent: a secrets backend that does not answer looks just the same.
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r}: there is no such connection. Add it under "
                "Admin > Connections with the type Polysync SageMaker, or correct the id.",
                permanent=False,
            ) from error
        if connection.conn_type not in (self.conn_type, AwsBaseHook.conn_type):
            raise CredentialsError(
                f"polysync_conn_id = {self.polysync_conn_id!r} is a connection of type "
                f"{connection.conn_type!r}; it must be {self.conn_type!r} or {AwsBaseHook.conn_type!r}."
            )
        return connection

    @cached_property
    def credentials(self) -> BaseCredentials | None:
        """The connection's checked content; None for an ``aws`` connection."""
        connection = self._connection
        if connection.conn_type == AwsBaseHook.conn_type:
            return None
        fields = {
            **connection.extra_dejson,
            "access_key_id": connection.login,
            "secret_access_key": connection.password,
        }
        if self._region_name:
            fields["region_name"] = self._region_name
        credentials = parse_credentials(fields, connection_id=self.polysync_conn_id)
        for secret in credentials.secrets:
            mask_secret(secret)
        return credentials

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        """What the amazon provider's base hook reads; unlike there, a missing connection raises."""
        if self.credentials is None:
            wrapper = AwsConnectionWrapper(conn=self._connection, region_name=self._region_name)
        else:
            wrapper = AwsConnectionWrapper.from_connection_metadata(
                conn_id=self.polysync_conn_id,
                extra={
                    "region_name": self.credentials.region_name,
                    "endpoint_url": self.credentials.endpoint_url,
                    "verify": self.credentials.verify,
                },
            )
        ours = Config(
            retries={"mode": "standard"},
            user_agent_extra=f"polysync-airflow/{__version__}",
            max_pool_connections=MAX_POOL_CONNECTIONS,
        )
        for theirs in (wrapper.botocore_config, self._overrides):
            ours = ours.merge(theirs) if theirs else ours
        wrapper.botocore_config = ours
        return wrapper

    def has_same_connection(self, other: PolysyncBaseHook) -> bool:
        """
        Tell whether the connection says the same as when another hook read it.

        :param other: a hook of the same connection.
        :raises CredentialsError: if it cannot be read.
        """
        mine, theirs = self._connection, other._connection
        parts = ("conn_type", "login", "password", "extra", "host", "port", "schema")
        return all(getattr(mine, part) == getattr(theirs, part) for part in parts)

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> boto3.session.Session:
        """Return the one boto3 session of this hook's connection."""
        if self.credentials is not None:
            return self.credentials.session(allowed_identity_folders())
        session = super().get_session(region_name=region_name, deferrable=deferrable)
        if not session.region_name:
            raise CredentialsError(
                f"No region: set region_name in the extra of connection {self.polysync_conn_id!r}, or "
                "give the operator a region_name."
            )
        # boto3 has no public way to the session that it wraps; the amazon provider takes this one too.
        optimize_parsing(session._session)
        return session

    def get_caller_identity(self) -> dict[str, Any]:
        """
        Ask AWS who signs in.

        :raises CredentialsError: if signing in fails, or STS does not answer.
        """
        own = self.credentials
        endpoint = own.sts_endpoint_url if own else self.conn_config.get_service_endpoint_url("sts")
        try:
            sts = self.get_session(self.region_name).client(
                "sts", endpoint_url=endpoint, config=self._get_config(), verify=self.verify
            )
            answer: dict[str, Any] = sts.get_caller_identity()
        except BOTO_ERRORS as error:
            raise self._sign_in_failed(error) from error
        return answer

    @property
    def way(self) -> str:
        """How this connection signs in."""
        return self.credentials.way if self.credentials else "an aws connection"

    @property
    def credentials_expire_at(self) -> datetime | None:
        """When the credentials in use expire, if they do; they are renewed before."""
        found = self.get_session(self.region_name).get_credentials()
        expiry: datetime | None = getattr(found, "_expiry_time", None)
        return expiry.astimezone(UTC) if expiry else None

    @property
    def max_pool_connections(self) -> int:
        """How many calls can be under way at once without connecting anew for each."""
        return int(self._signed_in_client.meta.config.max_pool_connections)

    @property
    def _signed_in_client(self) -> Any:
        try:
            return self._client
        except BOTO_ERRORS as error:
            raise self._sign_in_failed(error) from error

    def _sign_in_failed(self, error: BotoError) -> CredentialsError:
        hint = UNKNOWN_HINT
        if isinstance(error, ClientError):
            hint = hint_for(error.response["Error"]["Code"], error.operation_name)
        return CredentialsError(
            f"Could not sign in with the connection {self.polysync_conn_id!r}: {error}",
            permanent=hint.permanent,
            transient=is_transient(error, hint),
        )
