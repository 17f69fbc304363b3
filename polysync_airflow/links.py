"""
The buttons of a task in the Airflow UI: its execution in console and Studio, a failed
step's log.

From Airflow 3 on, a button shows an XCom as Airflow stores it: the one that the task
pushes for its users. A custom XCom backend may store something else than the URL, so
Airflow then stores it once more at the end of a session. Of mapped tasks, Airflow
stores all buttons then.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from airflow.providers.common.compat.sdk import (
    BaseOperator,
    BaseOperatorLink,
    TaskInstanceKey,
    conf,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.task_instances import read_xcom
from polysync_airflow.execution import console

CONSOLE_URL_XCOM_KEY: Final = "console_url"
STUDIO_URL_XCOM_KEY: Final = "studio_url"
UNIFIED_STUDIO_URL_XCOM_KEY: Final = "unified_studio_url"
LOG_URL_XCOM_KEY: Final = "failed_step_log_url"
_OWN_BACKENDS: Final = (
    "airflow.sdk.execution_time.xcom.BaseXCom",
    "airflow.models.xcom.BaseXCom",
)


class UrlLink(BaseOperatorLink):
    """A button whose URL is an XCom."""

    key: ClassVar[str]
    is_allowed = staticmethod(console.is_console_url)

    @property
    def xcom_key(self) -> str:
        """The key of the XCom that the button shows. From Airflow 3 on."""
        backend = conf.get("core", "xcom_backend", fallback=_OWN_BACKENDS[0])
        if backend in _OWN_BACKENDS:
            return self.key
        return super().xcom_key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL that the task has pushed to XCom; empty if there is none."""
        url = read_xcom(ti_key, self.key)
        # Others can edit XComs, and a person clicks the button.
        if self.is_allowed(url):
            return str(url)
        return ""


class PolysyncPipelineExecutionLink(UrlLink):
    """
    The button "SageMaker Console" of a task that has started or stopped an execution.
    """

    name = "SageMaker Console"
    key = CONSOLE_URL_XCOM_KEY


class PolysyncStudioLink(UrlLink):
    """
    The button "SageMaker Studio" of a task whose connection names a domain of Studio.
    """

    name = "SageMaker Studio"
    key = STUDIO_URL_XCOM_KEY
    is_allowed = staticmethod(console.is_studio_url)


class PolysyncUnifiedStudioLink(UrlLink):
    """
    The button "SageMaker Unified Studio" of a task whose connection names a domain or a
    project of it.
    """

    name = "SageMaker Unified Studio"
    key = UNIFIED_STUDIO_URL_XCOM_KEY
    is_allowed = staticmethod(console.is_unified_studio_url)


EXECUTION_LINKS: Final = (
    PolysyncPipelineExecutionLink(),
    PolysyncStudioLink(),
    PolysyncUnifiedStudioLink(),
)


class PolysyncFailedStepLogLink(UrlLink):
    """The button "Failed step's log" of a task whose execution has failed."""

    name = "Failed step's log"
    key = LOG_URL_XCOM_KEY


class PolysyncStepLink(UrlLink):
    """The button "Job in SageMaker" of a step's task: the job that the step runs."""

    name = "Job in SageMaker"
    key = CONSOLE_URL_XCOM_KEY


class PolysyncStepLogLink(UrlLink):
    """The button "Log in CloudWatch" of a step's task."""

    name = "Log in CloudWatch"
    key = "log_url"


def push_url(ti: Any, key: str, url: str | None, link: BaseOperatorLink) -> None:
    """
    Push the URL behind a button, so that the button works while the task is running.

    :param url: the URL; None if there is none, which is pushed, too, because the button
        looks it up.
    """
    ti.xcom_push(key, url)
    if url and CAPABILITIES.links_are_xcoms and link.xcom_key != key:
        ti.xcom_push(link.xcom_key, url)
        ti.task.operator_extra_links = (*ti.task.operator_extra_links, link)
