"""
Signs in to the account: with boto3's default credentials, or by a connection of another
program.

A distribution that has connections registers a function in the entry point group
``sagemaker_emulator.sessions``. The function gets the id of the connection, the region
or None, and botocore's settings for the clients. It returns the members of a
``Session``, or raises a ``ValueError`` that says why nobody can sign in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Final

from botocore.config import Config

from sagemaker_emulator.verify.models import AWS_ERRORS, VerifyError

# Nobody else repeats the calls: together, these attempts wait for about half a minute.
CONFIG: Final = Config(
    retries={"mode": "standard", "total_max_attempts": 8},
    connect_timeout=5,
    read_timeout=20,
    max_pool_connections=32,
)


@dataclass(frozen=True)
class Session:
    """
    The clients of an account, and what is known of the identity that uses them.

    :param client: makes a client of boto3, by the name of its service.
    :param identity: the response of GetCallerIdentity.
    :param secrets: texts that nobody must see; a run adds the tokens of callback steps.
    :param description: the sign-in method, for the report.
    :param permissions: returns the actions that the identity should have in a region,
        each with the ARN pattern of its resources.
    :param execution_link: returns the console link to an execution, by its ARN and the
        name of its pipeline.
    :param log_link: returns that to a log, by the ARN of an execution, the group and
        the begin of a stream.
    """

    client: Callable[[str], Any]
    identity: Mapping[str, str]
    secrets: list[str]
    description: str = "the default credentials of boto3"
    permissions: Callable[[str], Sequence[tuple[str, str]]] | None = None
    execution_link: Callable[[str, str], str | None] | None = None
    log_link: Callable[[str, str, str], str | None] | None = None


def sign_in(connection_id: str | None, region: str | None) -> Session:
    """
    Sign in.

    :param connection_id: the id of a connection; None for the default credentials of
        boto3.
    :param region: the region; None for that of the connection, or of the environment.
    :raises VerifyError: nobody can sign in.
    """
    if connection_id is None:
        return _default(region)
    makers = list(entry_points(group="sagemaker_emulator.sessions"))
    if not makers:
        raise VerifyError(
            "--conn-id names a connection of Airflow: install polysync-airflow, or"
            " omit it."
        )
    try:
        return Session(**makers[0].load()(connection_id, region, CONFIG))
    except ValueError as error:
        raise VerifyError(str(error)) from None


def _default(region: str | None) -> Session:
    import boto3

    try:
        session: Any = boto3.Session(region_name=region)
        client = partial(session.client, config=CONFIG)
        identity = client("sts").get_caller_identity()
        credentials = session.get_credentials().get_frozen_credentials()
    except AWS_ERRORS as error:
        raise VerifyError(
            f"Nobody can sign in with the default credentials of boto3: {error}"
        ) from None
    return Session(
        client,
        identity,
        [text for text in (credentials.secret_key, credentials.token) if text],
    )
