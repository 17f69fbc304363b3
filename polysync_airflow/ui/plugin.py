"""
The Airflow plugin that adds the tab "SageMaker" to the page of a task instance, and a
page to the navigation.

Every component of Airflow imports its plugins: the scheduler, the DAG processor and
workers, too. Therefore this module imports nothing heavy, and only the API server asks
for the two attributes that need FastAPI and the static files. Airflow 2 has no such
interface; there, the plugin has only its name.

The interface:
https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/plugins.html
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

URL_PREFIX: Final = "/polysync-sagemaker"
# The title of the tab and of the page. Airflow also looks for their component under it
# among the globals.
TITLE: Final = "SageMaker"
# The tasks with the tab, from Airflow 3.4 on; before, all have it. Subclasses have this
# field, too.
_OUR_TASKS: Final = {"task.template_fields": ["polysync_conn_id"]}


class PolysyncPlugin(AirflowPlugin):
    """
    Registers the tab, the page, and the application that serves them, where Airflow can
    show them.
    """

    name = "polysync_sagemaker"

    if CAPABILITIES.react_apps:

        @cached_property
        def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
            """
            The application with the files and the endpoint of the tab, mounted under
            ``URL_PREFIX``.
            """
            from polysync_airflow.ui.app import create_app

            return [
                {
                    "app": create_app(),
                    "url_prefix": URL_PREFIX,
                    "name": "Polysync: tab SageMaker",
                }
            ]

        @cached_property
        def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
            """
            The tab and the page, with the URL from which the browser imports both.
            """
            from polysync_airflow.ui.app import BUNDLE, build_id

            bundle = {
                "name": TITLE,
                "bundle_url": f"{_base_path()}{URL_PREFIX}/{build_id()}/{BUNDLE}",
            }
            tab = {
                "destination": "task_instance",
                "url_route": "sagemaker",
                "applies_to": _OUR_TASKS,
            }
            # Airflow leaves out the second of two apps with the same route.
            page = {
                "destination": "nav",
                "category": "browse",
                "url_route": "sagemaker-executions",
            }
            return [{**bundle, **tab}, {**bundle, **page}]


def _base_path() -> str:
    """
    Return the path under which a reverse proxy shows Airflow, without a slash at its
    end.

    Airflow 3.2 resolves the URL of a bundle against that of its own script, Airflow 3.3
    against the base URL of the page. Only a path from the root is the same for both.
    """
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
