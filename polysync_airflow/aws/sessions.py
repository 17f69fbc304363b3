"""
Makes botocore sessions: with given credentials only, or for the clients that get credentials from STS.

What is changed here is changed on one session, never on botocore itself, which the process shares with
others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
from botocore.loaders import Loader
from botocore.parsers import ResponseParser, ResponseParserError
from botocore.session import Session
from botocore.utils import parse_timestamp

from polysync_airflow.aws.log_redaction import hide_secrets, without_secrets
from polysync_airflow.aws.response_limits import limit_responses
from polysync_airflow.aws.service_models import PlainDictLoader, ReducedModelLoader

# For clients that call often, under a rate limiter. botocore's own retries would bypass the limiter and hide
# from it that AWS throttles. botocore builds its user agent again for each call, which takes a tenth of the
# call's CPU. The threads that make the calls, and with them their process, end within the timeouts.
RATE_LIMITED_CONFIG: Final = Config(
    retries={"total_max_attempts": 1},
    user_agent=f"Boto3/{boto3.__version__}",
    connect_timeout=5,
    read_timeout=8,
)
_STS_OPERATIONS: Final = ("AssumeRole", "AssumeRoleWithWebIdentity")


def create_session(credentials: Credentials, region_name: str) -> boto3.session.Session:
    """Make a boto3 session that uses these credentials and no others."""
    session = Session()
    session.register_component("data_loader", _LOADER)
    prepare(session)
    session.register_component("credential_provider", CredentialResolver([_Provider(credentials)]))
    boto3_session = boto3.session.Session(botocore_session=session, region_name=region_name)
    # Each boto3 session appends boto3's folder to the loader, which all sessions share. Only repetitions are
    # removed, so a thread that goes through the list meanwhile misses nothing.
    _LOADER.search_paths[:] = dict.fromkeys(_LOADER.search_paths)
    return boto3_session


def create_sts_session() -> Session:
    """Make a botocore session without credentials, whose debug log shows no secrets of STS."""
    session = Session()
    # Without the time at which they expire, credentials cannot be used.
    prepare(session, timestamp_parser=_parse_timestamp)
    limit_responses(session)
    reduce_models(session, {"sts": _STS_OPERATIONS})
    return session


def client_creator(config: Config, **settings: Any) -> Callable[..., Any]:
    """
    Return the function with which botocore's credential fetchers make their STS client.

    :param settings: arguments of botocore's ``create_client``.
    """

    def create(service: str, **arguments: Any) -> Any:
        own = arguments.pop("config", None)
        merged = config.merge(own) if own else config
        return create_sts_session().create_client(service, config=merged, **settings, **arguments)

    return create


def _parse_timestamp_or_none(value: Any) -> datetime | None:
    # One damaged time must not make a list of a hundred executions invalid.
    try:
        return _parse_timestamp(value)
    except (AttributeError, OSError, OverflowError, RuntimeError, TypeError, ValueError):
        return None


def prepare(
    session: Session, *, timestamp_parser: Callable[[Any], datetime | None] = _parse_timestamp_or_none
) -> None:
    """
    Make a session read data files and timestamps with less CPU and memory, and log no secrets.

    :param session: a session that has made no client yet.
    :param timestamp_parser: what reads a time. By default, one that is not valid counts as missing.
    """
    # Only the way in which files are read: the session's owner may have set where they are searched for.
    session.get_component("data_loader").file_loader = PlainDictLoader()
    hide_secrets(session)
    parsers = session.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=timestamp_parser)
    # botocore makes a new parser for each response. Parsers have no state, and each leaves a reference cycle
    # for the garbage collector.
    parsers.create_parser = cache(partial(_create_parser, parsers.create_parser))


def _create_parser(create: Callable[[str], ResponseParser], protocol_name: str) -> ResponseParser:
    parser = create(protocol_name)
    parse = parser.parse

    def parse_or_raise(response: Mapping[str, Any], shape: Any) -> Any:
        # botocore checks no types: a JSON list in place of an object ends in an AttributeError.
        try:
            parsed = parse(without_secrets(response, shape), shape)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ResponseParserError(f"{type(error).__name__}: {error}") from error
        if not isinstance(parsed, dict):
            raise ResponseParserError(f"{type(parsed).__name__} in place of an object")
        refusal = parsed.get("Error")
        if isinstance(refusal, dict) and not isinstance(refusal.get("Code", ""), str):
            # botocore would look for the code in a dict.
            raise ResponseParserError("an error code that is no text")
        return parsed

    # On this parser only: its class depends on the protocol, and belongs to botocore.
    parser.parse = parse_or_raise  # type: ignore[method-assign]
    return parser


def reduce_models(session: Session, operations: Mapping[str, tuple[str, ...]]) -> None:
    """
    Make a session read only some operations of some services.

    :param session: a session that has made no client yet. It can make clients for these services only.
    :param operations: the operations, by service name.
    """
    # Without repetitions, which differ from session to session while other threads make sessions.
    search_paths = tuple(dict.fromkeys(session.get_component("data_loader").search_paths))
    session.register_component("data_loader", _reduced_loader(tuple(operations.items()), search_paths))


@cache
def _reduced_loader(
    operations: tuple[tuple[str, tuple[str, ...]], ...], search_paths: tuple[str, ...]
) -> Loader:
    # A loader keeps what it has read: each reduced model is read once per process.
    loader = Loader(extra_search_paths=list(search_paths), include_default_search_paths=False)
    loader.file_loader = ReducedModelLoader(dict(operations))
    return loader


def _parse_timestamp(value: Any) -> datetime:
    # AWS's JSON has seconds since the epoch. botocore converts them by way of the host's time zone, which
    # takes a third of the CPU of reading a list of executions.
    if isinstance(value, (int, float)):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    parsed: datetime = parse_timestamp(value)
    return parsed


class _Provider(CredentialProvider):
    METHOD = "polysync"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


# Data files are read once per process, not once per session.
_LOADER: Final = Loader()
