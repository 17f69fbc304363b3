"""The table of test cases: title, scenario, and expected outcome of each."""

from __future__ import annotations

from typing import Final

from tests.chaos.cases.capacity_cases import CAPACITY_CASES
from tests.chaos.cases.case import LONG, Case, Expected
from tests.chaos.cases.change_cases import CHANGE_CASES, UPGRADE_CASES
from tests.chaos.cases.cost_cases import COST_CASES
from tests.chaos.cases.full_triggerer_cases import FULL_TRIGGERER_CASES
from tests.chaos.cases.group_cases import GROUP_CASES
from tests.chaos.cases.pod_cases import POD_CASES
from tests.chaos.cases.task_cases import TASK_CASES
from tests.chaos.cases.watch_cases import WATCH_CASES
from tests.chaos.cases.worker_cases import WORKER_CASES
from tests.chaos.scenarios import executions

CASES: Final = (
    *TASK_CASES,
    *WORKER_CASES,
    *POD_CASES,
    *CHANGE_CASES,
    *GROUP_CASES,
    *WATCH_CASES,
    *CAPACITY_CASES,
    *COST_CASES,
    *FULL_TRIGGERER_CASES,
)
# Only the Amazon provider's operator for a training job can refuse a name that exists.
JOB_NAME_CASE: Final = Case(
    "2a",
    "as 2, action_if_job_exists=fail",
    executions.killed_at_kill_point,
    Expected(("Executing",), "failed", tries=3),
    LONG,
)
ALL_CASES: Final = (*CASES, JOB_NAME_CASE, *UPGRADE_CASES)
# The test cases that the Amazon provider's operators are measured in, and those of both
# providers for a training job.
AMAZON_CASES: Final = ("2", "6a", "6b", "8a", "8b", "8c", "8d", "9a", "9b", "9c")

__all__ = ["ALL_CASES", "AMAZON_CASES", "CASES", "JOB_NAME_CASE", "UPGRADE_CASES"]
