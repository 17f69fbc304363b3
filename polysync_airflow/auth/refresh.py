"""
Refreshes short-lived AWS credentials before they expire, once per process for all threads that use them.

It decides when to refresh, and how long to wait after a failed refresh. ``credentials`` gives all hooks with
the same connection content the same object. The requests that get new credentials are in ``sts``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from botocore.credentials import DeferredRefreshableCredentials

from polysync_airflow.airflow_compat.supervisor import mask_secret
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution import clock
from polysync_airflow.metrics.catalogue import CREDENTIALS_FAILED, CREDENTIALS_REFRESHED
from polysync_airflow.metrics.sending import count

FetchCredentials = Callable[[], Mapping[str, Any]]

# botocore tries a refresh from the advisory limit on, and keeps using the old credentials if it fails. From
# the mandatory limit on, a failed refresh is an error. Both are upper limits; shorter lifetimes use a quarter
# and a twentieth of the lifetime. botocore's own fixed limits would refresh a session of 15 minutes at every
# call.
ADVISORY_REFRESH_SECONDS: Final = 900.0
MANDATORY_REFRESH_SECONDS: Final = 60.0
# Backoff after a failed refresh: one thread asks again after this time, for all threads that wait.
MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0


class RefreshingCredentials(DeferredRefreshableCredentials):
    """
    Credentials that are fetched at their first use and refreshed before they expire.

    One thread refreshes them, however many threads use them. After a failed refresh, no thread tries again
    until the backoff is over: the old credentials are used until the mandatory limit, and then all threads
    get the same error.

    :param fetch_credentials: fetches new credentials; returns botocore's metadata (``access_key``,
        ``secret_key``, ``token``, ``expiry_time`` in ISO 8601) or raises ``CredentialsError``.
    :param method: name of the source of the credentials, for botocore's log lines.
    """

    def __init__(self, fetch_credentials: FetchCredentials, method: str) -> None:
        super().__init__(refresh_using=self._fetch_with_backoff, method=method, time_fetcher=clock.now)
        self._fetch_credentials = fetch_credentials
        self._backoff_seconds = 0.0
        self._backoff_ends_at = float("-inf")
        self._last_error: CredentialsError | None = None
        self._last_credentials: Any = None

    def get_frozen_credentials(self) -> Any:
        """
        Return credentials that are valid now, and refresh them first if necessary.

        :raises CredentialsError: if there are no valid credentials and the refresh failed.
        """
        credentials = self._last_credentials
        error = self._error_during_backoff()
        if error is None:
            credentials = self._last_credentials = super().get_frozen_credentials()
        # Another thread's refresh has just failed. botocore would let every waiting thread try again, and
        # would log a traceback for each of them.
        elif credentials is None or self.refresh_needed(int(self._mandatory_refresh_timeout)):
            raise error
        return credentials

    def _error_during_backoff(self) -> CredentialsError | None:
        error = self._last_error
        if error is None or clock.monotonic() >= self._backoff_ends_at:
            return None
        # A copy for each caller: an exception object that many threads raise collects the tracebacks of all
        # of them.
        return CredentialsError(str(error), permanent=error.permanent, transient=error.transient)

    def _fetch_with_backoff(self) -> Mapping[str, Any]:
        # botocore calls this method in one thread at a time. The threads that waited for a failed attempt
        # call it next.
        recent_error = self._error_during_backoff()
        if recent_error:
            raise recent_error
        try:
            metadata = self._fetch_credentials()
            lifetime = self._remaining_seconds(metadata["expiry_time"])
        except CredentialsError as error:
            self._backoff_seconds = min(
                max(2 * self._backoff_seconds, MIN_BACKOFF_SECONDS), MAX_BACKOFF_SECONDS
            )
            self._backoff_ends_at = clock.monotonic() + self._backoff_seconds
            self._last_error = error
            count(CREDENTIALS_FAILED, later=True, method=self.method)
            raise
        count(CREDENTIALS_REFRESHED, later=True, method=self.method)
        if logging.getLogger("botocore").isEnabledFor(logging.DEBUG):
            # That log has the session token of each signed request. Otherwise they are not registered: the
            # masker keeps every secret for ever, and each refresh brings new ones.
            for secret in filter(None, (metadata["secret_key"], metadata["token"])):
                mask_secret(secret)
        self._backoff_seconds, self._last_error = 0.0, None
        self._advisory_refresh_timeout = min(ADVISORY_REFRESH_SECONDS, lifetime / 4)
        self._mandatory_refresh_timeout = min(MANDATORY_REFRESH_SECONDS, lifetime / 20)
        return metadata

    def _remaining_seconds(self, expiry_time: str) -> float:
        now = clock.now()
        remaining = (datetime.fromisoformat(expiry_time) - now).total_seconds()
        if remaining <= 0:
            raise CredentialsError(
                f"The new AWS credentials ({self.method}) have expired at {expiry_time}, but the clock of "
                f"this machine shows {now.isoformat(timespec='seconds')}. Check the clock of this machine.",
                permanent=False,
            )
        return remaining
