"""
The scenario in which events of an asset start DAG runs that overlap, with many mapped
tasks.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import ENDED, MANY_TASKS_TIMEOUT

DAG_RUNS: Final = 10
TASKS: Final = 20
# The asset of the DAG file.
ASSET: Final = "polysync_47"
TIMEOUT: Final = 3 * MANY_TASKS_TIMEOUT


def many_dag_runs(run: Run) -> Steps:
    """
    Each event starts a DAG run, while the runs before it still run. All tasks succeed,
    and leave no record.
    """
    client, most = run.deployment.client, 0
    run.create_pipeline()
    for number in range(1, DAG_RUNS + 1):
        client.create_asset_event(ASSET, {"pipeline": run.pipeline})
        yield from run.until(
            f"the DAG has {number} runs",
            partial(lambda count: len(client.dag_runs(run.dag_id)) == count, number),
        )
    run.run_ids = client.dag_runs(run.dag_id)

    def all_ended() -> bool:
        nonlocal most
        most = max(most, len(run.records()))
        return len(run.tasks()) == DAG_RUNS * TASKS and run.all_in(*ENDED)

    yield from run.until("all tasks have ended", all_ended, TIMEOUT)
    run.require(most > 0, "no record was seen")
    run.remarks.append(f"up to {most} records at the same time")
