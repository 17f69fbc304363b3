"""
The buttons of a task in the Airflow UI: its execution in console and Studio, a failed step's log.

From Airflow 3 on, Airflow asks for the URLs in the task's process, at the end of each session. To look up an
XCom that is not there would be an ERROR in the task's log, so nothing is looked up that cannot be there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import BaseOperatorLink
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.console import is_console_url, is_studio_url

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

CONSOLE_URL_XCOM_KEY: Final = "console_url"
STUDIO_URL_XCOM_KEY: Final = "studio_url"
LOG_URL_XCOM_KEY: Final = "failed_step_log_url"


class PolysyncPipelineExecutionLink(BaseOperatorLink):
    """The button "SageMaker Console" of a task that has started or stopped an execution."""

    name = "SageMaker Console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed to XCom when the execution began; empty if there is none."""
        if _has_no_links(operator):
            return ""
        return _url_in_xcom(ti_key, CONSOLE_URL_XCOM_KEY)


class PolysyncStudioLink(BaseOperatorLink):
    """The button "SageMaker Studio" of a task whose connection names a domain of Studio."""

    name = "SageMaker Studio"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task pushed to XCom when the execution began; empty if there is none."""
        if CAPABILITIES.links_are_xcoms and (_has_no_links(operator) or not _names_a_domain(operator)):
            return ""
        return _url_in_xcom(ti_key, STUDIO_URL_XCOM_KEY, is_studio_url)


class PolysyncFailedStepLogLink(BaseOperatorLink):
    """The button "Failed step's log" of a task whose execution has failed."""

    name = "Failed step's log"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL of the log of the first failed step; empty if there is none."""
        if CAPABILITIES.links_are_xcoms:
            return getattr(operator, LOG_URL_XCOM_KEY, None) or ""
        return _url_in_xcom(ti_key, LOG_URL_XCOM_KEY)


def push_url(ti: Any, key: str, url: str | None, link: BaseOperatorLink) -> None:
    """
    Push the URL behind a button, so that the button works while the task is running.

    :param url: the URL; None if there is none, which is pushed, too, because the button looks it up.
    """
    ti.xcom_push(key, url)
    if url and CAPABILITIES.links_are_xcoms:
        # Airflow itself stores extra links only when the worker finishes the task. That is too late for a
        # task that waits on the worker.
        ti.xcom_push(link.xcom_key, url)


def _has_no_links(operator: Any) -> bool:
    return getattr(operator, "has_no_links", False)


def _names_a_domain(operator: Any) -> bool:
    try:
        credentials = operator.hook.credentials
    except CredentialsError:
        return False
    return credentials is not None and credentials.studio_domain_id is not None


def _url_in_xcom(
    ti_key: TaskInstanceKey, key: str, is_allowed: Callable[[object], bool] = is_console_url
) -> str:
    from airflow.providers.common.compat.sdk import XCom

    url = XCom.get_value(ti_key=ti_key, key=key)
    # Others can edit XComs, and a person clicks the button.
    return url if is_allowed(url) else ""
