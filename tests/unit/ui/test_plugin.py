"""The plugin, as the components of Airflow load it."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from polysync_airflow import operators, sensors
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from polysync_airflow.ui.plugin import TITLE, PolysyncPlugin
from tests.conftest import NEEDS_TABS


def test_airflow_loads_the_plugin() -> None:
    """The entry point names the plugin, and Airflow accepts it."""
    from airflow.plugins_manager import get_plugin_info

    (entry_point,) = entry_points(group="airflow.plugins", name="polysync_sagemaker")

    loaded = {
        plugin["name"]: str(plugin["source"]) for plugin in get_plugin_info(["source"])
    }

    assert entry_point.load() is PolysyncPlugin
    assert loaded[PolysyncPlugin.name or ""].startswith("polysync-airflow==")


@pytest.mark.skipif(CAPABILITIES.react_apps, reason="this Airflow has tabs of plugins")
def test_plugin_registers_nothing_in_airflow_2() -> None:
    """In Airflow 2, the plugin registers nothing."""
    assert not {"react_apps", "fastapi_apps"} & set(vars(PolysyncPlugin))


@NEEDS_TABS
@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        (None, ""),
        ("http://localhost:8080", ""),
        ("https://example.com/team/airflow", "/team/airflow"),
        ("https://example.com/team/airflow/", "/team/airflow"),
    ],
)
def test_one_module_is_the_tab_and_the_page(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, path: str
) -> None:
    """
    One module is the tab of task instances and the page; its URL begins with the path
    of the API server.
    """
    from airflow.api_fastapi.core_api.datamodels.plugins import ReactAppResponse

    if base_url is not None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)

    tab, page = (
        ReactAppResponse.model_validate(app) for app in PolysyncPlugin().react_apps
    )

    assert tab.name == TITLE
    assert tab.destination == "task_instance"
    assert tab.url_route == "sagemaker"
    assert (page.name, page.destination, page.category) == (TITLE, "nav", "browse")
    # Of two apps with one route, Airflow shows the first.
    assert page.url_route == "sagemaker-executions"
    assert page.bundle_url == tab.bundle_url
    assert tab.bundle_url.startswith(f"{path}/polysync-sagemaker/0.")
    assert tab.bundle_url.endswith("/sagemaker.js")


@NEEDS_TABS
def test_tasks_of_our_operators_have_the_tab() -> None:
    """
    From Airflow 3.4 on, a task has the tab if its operator has one of these values.
    """
    from airflow.api_fastapi.core_api.datamodels.plugins import ReactAppResponse

    app = PolysyncPlugin().react_apps[0]
    scope = ReactAppResponse.model_validate(app).model_dump(mode="json")["applies_to"]
    names = [
        (module, name) for module in (operators, sensors) for name in module.__all__
    ]
    ours = [
        getattr(module, name) for module, name in names if name.startswith("Polysync")
    ]

    assert scope == {"task.template_fields": ["polysync_conn_id"]}
    assert len(ours) > 6
    for operator in (*ours, PolysyncPipelineStepOperator):
        assert "polysync_conn_id" in operator.template_fields, operator


@NEEDS_TABS
def test_the_api_server_mounts_the_files() -> None:
    """The API server finds the application and its path."""
    from airflow.plugins_manager import get_fastapi_plugins
    from fastapi import FastAPI

    apps, _ = get_fastapi_plugins()

    (app,) = [app for app in apps if app["url_prefix"] == "/polysync-sagemaker"]
    assert isinstance(app["app"], FastAPI)
