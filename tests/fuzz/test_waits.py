"""Random trigger rows beside the wait of another task, in one triggerer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.triggers.wait_triggers import PolysyncPipelineExecutionTrigger
from sagemaker_emulator import EmulatorServer
from tests.strategies import fuzz, values, variations
from tests.tasks import EmulatedTime
from tests.unit.conftest import gate  # noqa: F401 # fixture
from tests.unit.triggers.test_poller import all_events, make_trigger, start_executions

NAMES = (
    "execution_arn",
    "pipeline_name",
    "polysync_conn_id",
    "region_name",
    "poll_interval",
    "since",
    "deadline",
    "attempt",
    "stop_on_kill",
    "progress_interval",
    "declared_steps",
    "step_task_ids",
)


@pytest.fixture
def started(emulator: EmulatorServer) -> list[str]:
    """Two running executions."""
    return start_executions(emulator, 2)


@fuzz(changed=variations(dict.fromkeys(NAMES), values))
def test_random_rows_do_not_touch_other_waits(
    changed: dict[str, Any],
    started: list[str],
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    A random row ends with an event or an error of this provider; the wait beside it
    ends as it should.
    """
    first, second = started
    now = emulated_time.time()
    row = {
        **make_trigger(first, now).serialize()[1],
        **{
            name: value
            for name, value in changed.items()
            if name in NAMES and value is not None
        },
    }
    gate.clear()

    result, events = all_events(
        [PolysyncPipelineExecutionTrigger(**row), make_trigger(second, now)], gate
    )

    assert [event["outcome"] for event in events] == ["ended"]
    assert isinstance(result, PolysyncError) or len(result) == 1, result
