"""The summary of executions: what is counted, and what users may have edited."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

pytestmark = pytest.mark.skipif(
    not CAPABILITIES.react_apps, reason="this Airflow has no API server"
)
START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
COST = {
    "amount": 1.5,
    "currency": "USD",
    "prices_date": "2026-11-01",
    "note": None,
}


def run(state: str = "Success", **members: Any) -> dict[str, Any]:
    """Return an XCom ``run``."""
    own = {"pipeline_name": "churn", "state": state, "started_at": START.isoformat()}
    return {**own, "seconds": 60.0, "cost": COST, **members}


def summarize(*values: Any) -> dict[str, Any]:
    """Return the summary of XComs."""
    from polysync_airflow.ui.summary import summarize

    return summarize(values)


def test_executions_are_counted_by_pipeline_and_day() -> None:
    """Those of a pipeline count together, whether by its name or by its ARN."""
    arn = "arn:aws:sagemaker:eu-central-1:aws:pipeline/churn"
    later = (START + timedelta(hours=1)).isoformat()

    found = summarize(
        run(),
        json.dumps(run(pipeline_name=arn, started_at=later, seconds=120.0)),
        run("Failed", seconds=5.0, cost=None),
        run(pipeline_name="other"),
    )

    churn, other = found["pipelines"]
    assert churn == {
        "name": "churn",
        "runs": 3,
        "failures": 1,
        "median_seconds": 90.0,
        "costs": {"USD": 3.0},
        "days": {"2026-03-01": [2, 1], "2026-03-02": [1, 0]},
    }
    assert other["name"] == "other"
    assert (found["more_pipelines"], found["is_cut"]) == (0, False)


@pytest.mark.parametrize(
    "members",
    [{"resumes": 1}, {"selected_steps": ["Train"]}, {"state": "Cancelled"}],
    ids=["resumed", "selective", "stopped"],
)
def test_duration_is_that_of_whole_executions(members: dict[str, Any]) -> None:
    """That of others says nothing about the next one."""
    (pipeline,) = summarize(run(**members))["pipelines"]

    assert pipeline["median_seconds"] is None
    assert pipeline["runs"] == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "[" * 5000,
        "text",
        [],
        {"state": "Waiting", "pipeline_name": "churn"},
        run(pipeline_name=7),
        run(started_at="soon"),
        run(seconds=-1),
        run(seconds="NaN"),
        run(seconds=1e300),
        run(cost={"amount": "much"}),
        run(cost={**COST, "amount": 1e308}),
        run(cost={**COST, "amount": float("inf")}),
        run(cost={**COST, "currency": "\ud800"}),
    ],
)
def test_other_shapes_are_left_out(value: Any) -> None:
    """Users may edit XComs."""
    assert [each["runs"] for each in summarize(value, run())["pipelines"]] == [1]


def test_pipelines_and_days_are_limited() -> None:
    """Those with the most executions, and the last days, are returned."""
    from polysync_airflow.ui.summary import MAX_DAYS, MAX_PIPELINES

    days = [
        run(started_at=(START + timedelta(days=day)).isoformat())
        for day in range(MAX_DAYS + 5)
    ]
    others = [run(pipeline_name=f"p{index}") for index in range(MAX_PIPELINES)]

    found = summarize(*others, *days)

    assert len(found["pipelines"]) == MAX_PIPELINES
    assert found["more_pipelines"] == 1
    first = found["pipelines"][0]
    assert (first["name"], len(first["days"])) == ("churn", MAX_DAYS)
