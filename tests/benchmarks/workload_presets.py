"""
The predefined workloads: those that have limits, and those that show how the cost
grows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.benchmarks.workload import Workload

WAITING: Final = Workload()
WAITING_ROLE: Final = replace(WAITING, credentials="role")
THROTTLED: Final = replace(WAITING, quota=50.0, grace=120.0)
# A triggerer that takes over more executions than the account's quota allows to poll in
# time.
CROWDED: Final = Workload(
    executions=5000,
    pipelines=5000,
    seconds=300.0,
    poll_interval=30.0,
    starts_per_second=0.0,
    quota=50.0,
    grace=240.0,
)
# All triggers sign in at the same time, while STS is slow.
SIGN_IN: Final = Workload(
    executions=200,
    pipelines=1,
    seconds=8,
    starts_per_second=0,
    credentials="role",
    sts_latency=0.5,
    grace=32,
)
SENSING: Final = replace(WAITING, executions=200)
FEW: Final = replace(WAITING, executions=100)
MANY: Final = replace(WAITING, executions=5000)

GROWTH: Final = tuple(
    replace(WAITING, executions=count, pipelines=min(20, count))
    for count in (1, 10, 100, 1000, 5000)
)
MATRIX: Final = tuple(
    dict.fromkeys(
        replace(
            WAITING,
            credentials=credentials,
            executions=count,
            pipelines=min(count, pipelines or count),
        )
        for credentials in ("key", "role")
        for count in (1, 100, 1000, 5000)
        for pipelines in (1, 20, None)
    )
)
