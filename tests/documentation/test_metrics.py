"""The metrics in the documentation: their table, the dashboard, the alert rules."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.jobs import triggerer_job_runner

from polysync_airflow.metrics import Metric
from tests.fakes.metrics import METRICS
from tests.pages import DOCS, page

DASHBOARD: dict[str, Any] = json.loads(
    (DOCS / "assets" / "grafana-dashboard.json").read_text()
)
ALERTS: dict[str, Any] = yaml.safe_load((DOCS / "assets" / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
# As the StatsD exporter names them.
NAMES = {f"airflow_{metric.name.replace('.', '_')}": metric for metric in METRICS}
# Of Airflow.
CAPACITY_LEFT = Metric("triggerer.capacity_left", "gauge", ("hostname",))
RUNNING = Metric("triggers.running", "gauge", ("hostname",))
OF_AIRFLOW = {
    "airflow_triggerer_capacity_left": CAPACITY_LEFT,
    "airflow_triggers_running": RUNNING,
}
_SELECTOR = re.compile(r"(airflow_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"\bby \(([^)]*)\)")


def queries() -> dict[str, str]:
    """Return the queries of the dashboard and of the alert rules, by their titles."""
    panels = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }
    return {**panels, **{rule["alert"]: rule["expr"] for rule in RULES}}


def test_every_metric_is_in_the_table() -> None:
    """The table has what the code has, in the same order."""
    rows = page("reference/metrics.md").rows("Names")
    cells = {
        name: [cell.strip() for cell in row.split("|")]
        for name, row in rows.items()
        if name != "Name"
    }

    assert [(name, kind, tags) for name, (kind, tags, *_) in cells.items()] == [
        (metric.name, metric.kind, ", ".join(f"`{tag}`" for tag in metric.tags))
        for metric in METRICS
    ]


@pytest.mark.parametrize("title", queries())
def test_queries_use_what_is_sent(title: str) -> None:
    """
    A query names metrics of the table with their tags, takes the growth of counters,
    and never that of gauges.
    """
    query = queries()[title]
    found = _SELECTOR.findall(query)

    assert found
    for name, matchers in found:
        metric = {**NAMES, **OF_AIRFLOW}[name]
        tags = set(re.findall(r"(\w+)\s*[=!]", matchers)) | {
            tag.strip() for tags in _BY.findall(query) for tag in tags.split(",")
        }
        assert tags <= set(metric.tags), (name, tags)
        grows = re.search(rf"(rate|increase)\({name}\b", query) is not None
        assert grows == (metric.kind == "counter"), name


def test_the_dashboard_shows_every_metric() -> None:
    """
    Nothing that is sent is forgotten, and the dashboard is complete enough to be
    imported.
    """
    shown = {
        name for query in queries().values() for name, _ in _SELECTOR.findall(query)
    }

    assert shown == {*NAMES, *OF_AIRFLOW}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(
        panel["datasource"]["uid"] == "${datasource}" for panel in DASHBOARD["panels"]
    )


def test_alerts_say_what_to_do() -> None:
    """Each rule has a name of its own and a summary."""
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 0
    assert all(rule["annotations"]["summary"] for rule in RULES)


def test_airflow_sends_the_metrics_of_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the tag by which the dashboard shows them."""
    sent: dict[str, Any] = {}
    module: Any = triggerer_job_runner
    monkeypatch.setattr(
        module.stats, "gauge", lambda name, _, tags: sent.update({name: tags})
    )
    runner = SimpleNamespace(
        capacity=1, running_triggers={1}, metric_tags=lambda: {"hostname": "host"}
    )

    module.TriggerRunnerSupervisor.emit_metrics(runner)

    assert {name: tuple(tags) for name, tags in sent.items()} == {
        metric.name: metric.tags for metric in OF_AIRFLOW.values()
    }
