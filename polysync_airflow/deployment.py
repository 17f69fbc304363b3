"""
The identity of the Airflow deployment in which this process runs.

Two deployments may have the same DAGs, run ids and Fernet key, and start the same
pipelines. What tells them apart is a Variable with a random value, which the first task
of a deployment writes. It survives a rotation of the Fernet key, since Airflow encrypts
it again.

A copy of the database has the same Variable. So the identity also has the address of
the API server: the Variable keeps that of the deployment in which it was written, and
another address makes another deployment. Where no address is configured, the Variable
decides alone. The option ``[polysync_sagemaker] deployment`` gives the identity a name
in place of all this.
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from typing import Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Variable, conf

from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import DEPLOYMENT_PATTERN
from polysync_airflow.get_provider_info import DEPLOYMENT

log = logging.getLogger(__name__)

DEPLOYMENT_KEY: Final = "polysync_deployment"
_DESCRIPTION: Final = (
    "Identifies this deployment of Airflow in the names and records of SageMaker"
    " pipeline executions. Do not edit or delete it: tasks that run would not find"
    " their executions."
)
_DIGITS: Final = 16
# Two tasks may be the first ones of a deployment at the same time. What is stored after
# this time is the value of the one that has written last, and counts for both.
_SETTLE_SECONDS: Final = 2.0


def read_deployment() -> str | None:
    """
    Return the identity of this deployment; None if it has none, because no task has
    started an execution, or because the Variable was deleted.

    :raises PolysyncError: the option ``deployment`` is not valid.
    :raises Exception: Airflow does not respond.
    """
    name = configured_name()
    if name is not None:
        return name
    return identity_of(task_instances.get_variable(DEPLOYMENT_KEY))


def create_deployment(recorded: str | None) -> str:
    """
    Give this deployment an identity, and return it. For a worker.

    :param recorded: the identity in the record of a task of this database: the Variable
        was deleted; None for a new one.
    :raises PolysyncError: Airflow does not store the Variable.
    :raises Exception: Airflow does not respond.
    """
    identity = recorded or uuid.uuid4().hex[:_DIGITS]
    value = f"{identity} {base_url() or ''}".rstrip()
    Variable.set(DEPLOYMENT_KEY, value, description=_DESCRIPTION)
    clock.sleep(_SETTLE_SECONDS)
    deployment = read_deployment()
    if deployment is None:
        raise PolysyncError(
            f"Airflow does not return the Variable {DEPLOYMENT_KEY!r}, which was just"
            " stored. Nothing was started. Look whether something deletes it, or set"
            f" [{DEPLOYMENT[0]}] {DEPLOYMENT[1]} to a name of this deployment.",
            permanent=False,
        )
    log.info("This deployment is %s (Variable %s)", deployment, DEPLOYMENT_KEY)
    return deployment


def identity_of(stored: str | None) -> str | None:
    """
    Return the identity that follows from the Variable and from the address of the API
    server.

    :param stored: the value of the Variable, which users can edit; None if there is
        none.
    :return: None if the Variable has no identity.
    """
    identity, _, stored_url = (stored or "").partition(" ")
    if not re.fullmatch(DEPLOYMENT_PATTERN, identity):
        return None
    own_url = base_url()
    if own_url is None or own_url == stored_url or not stored_url:
        return identity
    # The database is a copy, or the address has changed.
    return hashlib.sha256(f"{identity} {own_url}".encode()).hexdigest()[:_DIGITS]


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


def base_url() -> str | None:
    """
    Return the address of the API server in Airflow's configuration; None if none is
    configured that tells one deployment from another.
    """
    section = "api" if CAPABILITIES.task_sdk else "webserver"
    url: str = (conf.get(section, "base_url", fallback="") or "").strip().rstrip("/")
    if urlsplit(url).hostname in (None, "localhost", "127.0.0.1"):
        return None
    return url
