"""When an execution began, in the XCom ``run``."""

from __future__ import annotations

from datetime import datetime

import pytest

from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.tasks import EmulatedTime, run_task
from tests.world import World


@pytest.mark.parametrize("skew", [-24 * 3600, 0, 24 * 3600])
def test_start_is_known_before_the_first_poll(
    skew: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The tab counts from it. It is a time of AWS's clock, as those of the steps are.
    """
    real = EmulatedTime.time
    monkeypatch.setattr(EmulatedTime, "time", lambda self: real(self) + skew)
    task = PolysyncStartPipelineOperator(
        task_id="t", pipeline_name="fanout", wait_for_completion=False
    )

    run = run_task(task)

    started_at = datetime.fromisoformat(run.xcoms["run"]["started_at"])
    assert started_at.timestamp() == int(real(world.time))
