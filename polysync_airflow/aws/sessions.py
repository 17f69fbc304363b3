"""Owns how botocore's sessions are made: what those of one process share, and how they read AWS's times."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session
from botocore.utils import parse_timestamp

from polysync_airflow.aws.log_redaction import redact_botocore_logs
from polysync_airflow.tenure import tenured

# For clients that call often, at a pace that others share. botocore's own repeats would go past the pace, and
# hide from it that AWS throttles. Its own user agent is put together anew for each call, which is a tenth of
# the call's CPU.
RATE_LIMITED_CONFIG: Final = Config(
    retries={"total_max_attempts": 1}, user_agent=f"Boto3/{boto3.__version__}"
)


def create_session(credentials: Credentials, region_name: str) -> boto3.session.Session:
    """
    Make a boto3 session that uses these credentials and no others.

    :param credentials: the credentials.
    :param region_name: AWS region.
    """
    redact_botocore_logs()
    session = _session()
    session.register_component("credential_provider", CredentialResolver([_Ready(credentials)]))
    return boto3.session.Session(botocore_session=session, region_name=region_name)


def client_creator(config: Config, **settings: Any) -> Callable[..., Any]:
    """
    Return what botocore's fetchers of credentials make their clients with.

    :param config: settings; the fetcher's own go before them.
    :param settings: of botocore's ``create_client``.
    """

    def create(service: str, **arguments: Any) -> Any:
        own = arguments.pop("config", None)
        merged = config.merge(own) if own else config
        return _session().create_client(service, config=merged, **settings, **arguments)

    return create


def _session() -> Session:
    session = Session()
    session.register_component("data_loader", _LOADER)
    optimize_parsing(session)
    return session


def optimize_parsing(session: Session) -> None:
    """
    Have a session spare its process most of what reading service models and answers costs.

    :param session: whose clients are made later.
    """
    # Only how files are read: who has made the session may have told it where they lie.
    session.get_component("data_loader").file_loader = _Reader()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_in_utc)


def _in_utc(value: Any) -> datetime:
    # AWS's JSON gives seconds since the epoch. botocore reads them by way of the host's time zone, which is a
    # third of all CPU that a list of executions takes.
    if isinstance(value, (int, float)):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    found: datetime = parse_timestamp(value)
    return found


class _Ready(CredentialProvider):
    METHOD = "polysync"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> Credentials:
        return self._credentials


_SUFFIXES: Final[dict[str, Callable[[bytes], bytes]]] = {".json": bytes, ".json.gz": gzip.decompress}


class _Reader(JSONFileLoader):
    """Reads service models, which stay as long as the process: nobody need look for garbage in them."""

    def load_file(self, file_path: str) -> Any:
        with tenured():
            for suffix, unpack in _SUFFIXES.items():
                found = Path(f"{file_path}{suffix}")
                if found.is_file():
                    # As plain dicts, which keep their order too: botocore's OrderedDicts take half as much
                    # again, and the garbage collector goes through each of them for ever.
                    return json.loads(unpack(found.read_bytes()))
            return None


# Service models are read once per process, not once per session.
_LOADER: Final = Loader()
