"""The trigger in a DAG file: what Airflow stores of it, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.events import PolysyncSageMakerEventTrigger, trigger
from polysync_airflow.exceptions import ParametersError

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/changes"


def test_stored_arguments_are_json_and_make_the_same_trigger() -> None:
    """
    The class path is public; the arguments are JSON, and the same after a round trip.
    """
    made = PolysyncSageMakerEventTrigger(
        queue_url=URL, pipelines=("a", "b"), states=["Failed"]
    )

    path, arguments = made.serialize()
    again = PolysyncSageMakerEventTrigger(**arguments)

    assert path == "polysync_airflow.events.PolysyncSageMakerEventTrigger"
    assert arguments == {
        "queue_url": URL,
        "polysync_conn_id": "polysync_default",
        "region_name": None,
        "pipelines": ["a", "b"],
        "steps": None,
        "model_package_groups": None,
        "states": ["Failed"],
    }
    hashes = {BaseEventTrigger.hash(*each.serialize()) for each in (made, again)}
    assert len(hashes) == 1


def test_watchers_of_a_queue_share_it() -> None:
    """
    Watchers with other filters share the reader; those of another queue, region or
    connection do not.
    """

    def key(**arguments: Any) -> Any:
        return PolysyncSageMakerEventTrigger(
            **{"queue_url": URL, **arguments}
        ).shared_stream_key()

    assert key() == key(pipelines=["a"]) == key(region_name="us-east-1")
    others = [key(), key(queue_url=f"{URL}2"), key(polysync_conn_id="other")]
    assert len(set(others)) == 3


def test_wrong_arguments_end_no_triggerer() -> None:
    """
    An argument is refused when the DAG file is parsed. Airflow's triggerer survives a
    TypeError only.
    """
    with pytest.raises(ParametersError, match="states has 'Done'") as caught:
        PolysyncSageMakerEventTrigger(queue_url=URL, states=["Done"])

    assert isinstance(caught.value, TypeError)


def test_older_versions_of_airflow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without an acknowledgement an event could be lost, so the error names the sensor
    instead.
    """
    monkeypatch.setattr(
        trigger, "CAPABILITIES", CAPABILITIES._replace(shared_event_streams=False)
    )

    with pytest.raises(
        ParametersError, match=r"needs Airflow 3.3 or newer.*wait with a sensor"
    ):
        PolysyncSageMakerEventTrigger(queue_url=URL)


async def test_it_is_for_watchers_only() -> None:
    """An operator cannot defer with it."""
    with pytest.raises(ParametersError, match="use it in an AssetWatcher"):
        await anext(aiter(PolysyncSageMakerEventTrigger(queue_url=URL).run()))
