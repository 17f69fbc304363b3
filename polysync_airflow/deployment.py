"""
The identity of the Airflow deployment in which this process runs.

Two deployments may have the same DAGs, run ids and Fernet key, and start the same
pipelines. What tells them apart is a Variable with a random value, which the first task
of a deployment writes. It survives a rotation of the Fernet key, since Airflow encrypts
it again.

A copy of the database has the same Variable, and so has a deployment into which it was
imported. So the identity also has the address of the API server: the Variable keeps
that of the deployment in which it was written, and another address makes another
deployment. Where no address is configured, the Variable decides alone; the first worker
that has one adds it. The option ``[polysync_sagemaker] deployment`` gives the identity
a name in place of all this.

A key of a Variable is unique among the teams of a deployment, and each sees only its
own Variables and those without a team. So each team has an identity of its own, unless
there is a Variable without a team.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Variable, conf

from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import DEPLOYMENT_PATTERN
from polysync_airflow.get_provider_info import DEPLOYMENT, TRIGGERERS

log = logging.getLogger(__name__)

DEPLOYMENT_KEY: Final = "polysync_deployment"
_DESCRIPTION: Final = (
    "Identifies this deployment of Airflow in the names and records of SageMaker"
    " pipeline executions. Do not edit or delete it: tasks that run would not find"
    " their executions."
)
_DIGITS: Final = 16
# Two tasks may be the first ones of a deployment at the same time, and Airflow 3 stores
# the value of each. The last one counts, so a value counts only after this time.
SETTLE_SECONDS: Final = 5.0
_MAX_READS: Final = 10
_STORED: Final = re.compile(
    rf"(?P<identity>{DEPLOYMENT_PATTERN})(?: (?P<stored_at>[0-9]{{1,12}}))?"
    r"(?: (?P<url>\S+))?"
)


def deployment_keys(team: str | None) -> list[str]:
    """
    Return the keys of the Variables that may have the identity, the first one first.

    :param team: the team of the task; None if it has none.
    """
    if team is None:
        return [DEPLOYMENT_KEY]
    return [f"{DEPLOYMENT_KEY}.{team}", DEPLOYMENT_KEY]


def read_deployment(team: str | None) -> str | None:
    """
    Return the identity of this deployment; None if it has none, because no task has
    started an execution, or because the Variable was deleted.

    :param team: the team of the task; None if it has none.
    :raises PolysyncError: the option ``deployment`` is not valid.
    :raises Exception: Airflow does not respond.
    """
    return find_deployment(team, task_instances.get_variable)


def find_deployment(team: str | None, read: Callable[[str], str | None]) -> str | None:
    """
    Return what ``read_deployment`` returns.

    :param read: returns the value of a Variable by its key, None if there is none.
    """
    name = configured_name()
    if name is not None:
        return name
    stored = stored_identity(team, read)
    if stored is None:
        return None
    return stored.identity


def ensure_deployment(recorded: str | None, team: str | None) -> str:
    """
    Return the identity of this deployment, which its first task makes. For a worker.

    :param recorded: the identity in the record of a task of this database, for a
        Variable that was deleted; None for a new one.
    :param team: the team of the task; None if it has none.
    :raises PolysyncError: the option ``deployment`` is not valid, or Airflow does not
        store the Variable.
    :raises Exception: Airflow does not respond.
    """
    name = configured_name()
    if name is not None:
        return name
    before = None
    for reads in range(_MAX_READS):
        stored = stored_identity(team, task_instances.get_variable)
        if stored is None:
            if reads == 0:
                _store(recorded or uuid.uuid4().hex[:_DIGITS], team)
            clock.sleep(SETTLE_SECONDS)
            continue
        seconds = stored.stored_at + SETTLE_SECONDS - clock.time()
        # The clocks of two hosts may differ, by any time: what has stayed the same has
        # settled, also if it seems to be of later.
        is_of_later = seconds > SETTLE_SECONDS and stored == before
        if seconds <= 0 or is_of_later:
            _compare_addresses(stored)
            return stored.identity
        clock.sleep(min(seconds, SETTLE_SECONDS))
        before = stored
    raise PolysyncError(
        f"Airflow does not keep the Variable {deployment_keys(team)[0]!r}, which was"
        " just stored. Nothing was started. Look what changes or deletes it, or set"
        f" [{DEPLOYMENT[0]}] {DEPLOYMENT[1]} to a name of this deployment.",
        permanent=False,
    )


class StoredIdentity(NamedTuple):
    """
    What a Variable says.

    :param key: the key of the Variable.
    :param value: the whole value of the Variable.
    :param stored: the identity in this value.
    :param url: the address of the deployment that has stored the identity; None if the
        deployment had none.
    :param stored_at: when the identity was stored, as Unix time.
    """

    key: str
    value: str
    stored: str
    url: str | None
    stored_at: float

    @property
    def is_of_other_address(self) -> bool:
        """Whether the database is a copy, or the address has changed."""
        own_url = base_url()
        return None not in (own_url, self.url) and own_url != self.url

    @property
    def identity(self) -> str:
        """The identity of this deployment."""
        if not self.is_of_other_address:
            return self.stored
        content = f"{self.stored} {base_url()}".encode()
        return hashlib.sha256(content).hexdigest()[:_DIGITS]


def stored_identity(
    team: str | None, read: Callable[[str], str | None]
) -> StoredIdentity | None:
    """
    Return what the Variable says; None if there is none, or if it is damaged.

    :param read: returns the value of a Variable by its key, None if there is none.
    """
    for key in deployment_keys(team):
        value = read(key)
        match = _STORED.fullmatch(value or "")
        if match is not None:
            stored_at = float(match["stored_at"] or 0)
            return StoredIdentity(
                key, match[0], match["identity"], match["url"], stored_at
            )
    return None


def deployment_of_database() -> tuple[str | None, str | None]:
    """
    Return the identity of this deployment, without teams, and why it may be taken for
    another one; None if it may not. For commands.
    """
    from polysync_airflow.airflow_compat.database import stored_variable

    with stored_variable(DEPLOYMENT_KEY, lock=False) as variable:
        identity = find_deployment(None, variable.value_of)
        stored = stored_identity(None, variable.value_of)
    doubt = None
    if stored is not None:
        doubt = doubt_about(stored)
    return identity, doubt


def deployments_of_database() -> set[str]:
    """
    Return the identities of this deployment: one, or one of each team. For commands.
    """
    from polysync_airflow.airflow_compat.database import stored_variable, variable_keys

    teams = {key.partition(".")[2] or None for key in variable_keys(DEPLOYMENT_KEY)}
    with stored_variable(DEPLOYMENT_KEY, lock=False) as variable:
        found = {find_deployment(each, variable.value_of) for each in {None, *teams}}
    return {identity for identity in found if identity is not None}


def _compare_addresses(stored: StoredIdentity) -> None:
    """
    Add the address of this deployment to an identity that has settled without one. Warn
    if only the identity has one. For a worker.
    """
    own_url = base_url()
    if stored.url is None and own_url is not None:
        # All workers write the same, unless their addresses differ.
        try:
            Variable.set(
                stored.key, f"{stored.value} {own_url}", description=_DESCRIPTION
            )
        except Exception as error:
            log.warning("The Variable %s keeps no address: %s", stored.key, error)
        else:
            log.info("Added the address %s to the Variable %s", own_url, stored.key)
    elif stored.url is not None and own_url is None:
        log.warning("%s", doubt_about(stored))


def doubt_about(stored: StoredIdentity) -> str | None:
    """
    Return why another deployment may count as this one, or this one as another, and the
    cure; None if neither may.

    :raises PolysyncError: the option ``deployment`` is not valid.
    """
    if configured_name() is not None:
        return None
    own_url = base_url()
    option = f"[{DEPLOYMENT[0]}] {DEPLOYMENT[1]}"
    if stored.url is None and own_url is None:
        return (
            f"The Variable {stored.key} has no address, and no [api] base_url is"
            " configured: a copy of this database, and a deployment into which its"
            " Variables are imported, count as this one. Set base_url on all hosts, or"
            f" {option}."
        )
    if stored.url is None:
        return (
            f"The Variable {stored.key} has no address yet. The next task that starts"
            f" an execution adds {own_url}; a copy of the database that is older counts"
            " as this deployment."
        )
    if own_url is None:
        return (
            f"The Variable {stored.key} is that of the deployment at {stored.url}, and"
            " no [api] base_url is configured here, so this host counts as one of that"
            " deployment. If the Variable was imported, or the database was copied, set"
            f" {option}; otherwise set base_url here, too."
        )
    if stored.is_of_other_address:
        return (
            f"The Variable {stored.key} is that of the deployment at {stored.url}, and"
            f" this one is at {own_url}: the database is a copy, or the Variable was"
            " imported. The executions of that deployment are left alone. If the"
            f" address of this one has changed, set {option} = {stored.stored}."
        )
    return None


def _store(identity: str, team: str | None) -> None:
    value = f"{identity} {clock.time():.0f} {base_url() or ''}".rstrip()
    key = deployment_keys(team)[0]
    try:
        Variable.set(key, value, description=_DESCRIPTION)
    except Exception:
        # Airflow 2 stores one of two values that come at the same time, and refuses the
        # other one.
        if stored_identity(team, task_instances.get_variable) is None:
            raise
        return
    log.info("Stored an identity of this deployment in the Variable %s", key)


def configured_name() -> str | None:
    """
    Return the name of this deployment in ``[polysync_sagemaker] deployment``; None if
    the option is not set.

    :raises PolysyncError: the option is not valid.
    """
    section, option = DEPLOYMENT
    name: str = (conf.get(section, option, fallback="") or "").strip()
    if not name:
        return None
    if not re.fullmatch(DEPLOYMENT_PATTERN, name):
        raise PolysyncError(
            f"[{section}] {option} = {name!r} is not valid: use 1 to 64 letters,"
            " digits, hyphens, underscores and dots, such as prod. Nothing was started."
        )
    return name


# More would only be a mistake.
_MAX_TRIGGERERS: Final = 1000


def configured_triggerers() -> int:
    """
    Return how many triggerers the deployment says that it has.

    :raises PolysyncError: the option is not valid.
    """
    section, option = TRIGGERERS
    text: str = (conf.get(section, option, fallback="") or "").strip() or "1"
    if not re.fullmatch("[0-9]{1,4}", text) or not 0 < int(text) <= _MAX_TRIGGERERS:
        raise PolysyncError(
            f"[{section}] {option} = {text[:40]!r} is not valid: give how many"
            f" triggerers run, from 1 to {_MAX_TRIGGERERS}."
        )
    return int(text)


def number_of_triggerers() -> int:
    """
    Return how many triggerers share a rate: 1 if the option is not valid, which must
    not end a wait.
    """
    try:
        return configured_triggerers()
    except PolysyncError as error:
        log.error("%s This triggerer counts as the only one.", error)
        return 1


def url_of(page: str) -> str:
    """
    Return the URL of a page of Airflow 3's UI; the given path of the page if no address
    is configured.
    """
    url = base_url()
    if url is None or not CAPABILITIES.task_sdk:
        return page
    return f"{url}/{page}"


def base_url() -> str | None:
    """
    Return the address of the API server in Airflow's configuration; None if the
    configured address does not tell one deployment from another, or is missing.
    """
    section = "api" if CAPABILITIES.task_sdk else "webserver"
    url: str = (conf.get(section, "base_url", fallback="") or "").strip().rstrip("/")
    if urlsplit(url).hostname in (None, "localhost", "127.0.0.1"):
        return None
    return url
