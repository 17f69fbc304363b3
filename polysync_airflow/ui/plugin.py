"""
The Airflow plugin that adds the tab "SageMaker" to the page of a task instance.

Every component of Airflow imports its plugins: the scheduler, the DAG processor and workers, too. Therefore
this module imports nothing heavy, and only the API server asks for the two attributes that need FastAPI and
the static files. Airflow 2 has no such interface; there, the plugin has only its name.

The interface: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/plugins.html
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

URL_PREFIX: Final = "/polysync-sagemaker"
# The title of the tab. Airflow also looks for the component under this name among the globals of the page.
TAB_NAME: Final = "SageMaker"
# The tasks with the tab, from Airflow 3.4 on; before, all have it. Subclasses have this field, too.
_OUR_TASKS: Final = {"task.template_fields": ["polysync_conn_id"]}


class PolysyncPlugin(AirflowPlugin):
    """Registers the tab, and the application that serves it, where Airflow can show it."""

    name = "polysync_sagemaker"

    if CAPABILITIES.react_apps:

        @cached_property
        def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
            """The application with the files and the endpoint of the tab, mounted under ``URL_PREFIX``."""
            from polysync_airflow.ui.app import create_app

            return [{"app": create_app(), "url_prefix": URL_PREFIX, "name": "Polysync: tab SageMaker"}]

        @cached_property
        def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
            """The tab, with the URL from which the browser imports it."""
            from polysync_airflow.ui.app import BUNDLE, build_id

            return [
                {
                    "name": TAB_NAME,
                    "bundle_url": f"{_base_path()}{URL_PREFIX}/{build_id()}/{BUNDLE}",
                    "destination": "task_instance",
                    "url_route": "sagemaker",
                    "applies_to": _OUR_TASKS,
                }
            ]


def _base_path() -> str:
    """
    Return the path under which a reverse proxy shows Airflow, without a slash at its end.

    Airflow 3.2 resolves the URL of a bundle against that of its own script, Airflow 3.3 against the base URL
    of the page. Only a path from the root is the same for both.
    """
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
