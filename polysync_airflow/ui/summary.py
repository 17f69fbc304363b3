"""
The summary above the page with all executions: how many there were of each pipeline,
how many have failed, how long they took, and what they cost.

Airflow's REST API returns the values of XComs one by one, so this reads the XComs
``run`` in the database, of the DAGs that the user may read.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Annotated, Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from polysync_airflow.airflow_compat.xcoms import XComBatch, newest_xcoms, xcom_value
from polysync_airflow.execution import models, texts, what_next
from polysync_airflow.states import PolysyncState

# So many of the newest executions are read, and so many pipelines and days returned.
MAX_EXECUTIONS: Final = 10_000
MAX_PIPELINES: Final = 50
MAX_DAYS: Final = 31
# The sum of larger numbers may be no number in JSON.
_Number = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Cost(BaseModel):
    """What the summary uses of the member ``cost``."""

    amount: _Number
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class _Run(BaseModel):
    """What the summary uses of an XCom ``run``, which users may edit."""

    pipeline_name: texts.ArnText
    state: Annotated[str, Field(max_length=64)]
    started_at: models.UtcTime
    seconds: _Number | None = None
    resumes: int = 0
    selected_steps: list[Any] = []
    cost: _Cost | None = None
    spending: _Cost | None = None


@dataclass
class _Pipeline:
    """The executions of one pipeline."""

    name: str
    runs: int = 0
    failures: int = 0
    seconds: list[float] = field(default_factory=list)
    costs: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    # By date in UTC: how many executions have started, and how many of them failed.
    days: defaultdict[str, list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )

    def add(self, run: _Run) -> None:
        """Count an execution."""
        day = self.days[run.started_at.date().isoformat()]
        self.runs += 1
        day[0] += 1
        if run.state == PolysyncState.FAILED:
            self.failures += 1
            day[1] += 1
        # Between its attempts, a resumed execution may have waited for days, and a
        # selective one is shorter.
        is_whole = run.state == PolysyncState.SUCCESS and not run.resumes
        if is_whole and not run.selected_steps and run.seconds is not None:
            self.seconds.append(run.seconds)
        # As the rows of the page have it.
        cost = run.spending or run.cost
        if cost:
            self.costs[cost.currency] += cost.amount

    def rank(self) -> tuple[int, float, int]:
        """Return by what pipelines are sorted."""
        return self.failures, max(self.costs.values(), default=0.0), self.runs

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        median_seconds = None
        if self.seconds:
            median_seconds = median(self.seconds)
        return {
            "name": self.name,
            "runs": self.runs,
            "failures": self.failures,
            "median_seconds": median_seconds,
            "costs": dict(self.costs),
            "days": dict(sorted(self.days.items())[-MAX_DAYS:]),
        }


def _minute_of(time: datetime) -> datetime:
    # The page asks for the last hours from now on: a summary is shared for some
    # seconds.
    return time.replace(second=0, microsecond=0)


class SummaryFilters(BaseModel):
    """
    Of which executions the summary is.

    :param since: when their tasks have started at the earliest, to the minute; None for
        any time.
    :param dag: a part of the ids of their DAGs.
    """

    model_config = ConfigDict(frozen=True)

    since: Annotated[models.UtcTime, AfterValidator(_minute_of)] | None = Field(
        None,
        description="Give a time from 2001 to 2286, such as 2026-03-01T08:30:00Z.",
    )
    dag: Annotated[str, StringConstraints(max_length=250)] = Field(
        "", description="Give a part of the id of a DAG."
    )


def readable_dags(user: BaseUser) -> frozenset[str]:
    """Return the ids of the DAGs that a user may read."""
    return frozenset(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))


def digest_of(dag_ids: Set[str]) -> str:
    """Return a short text that only these ids have."""
    return hashlib.sha256(json.dumps(sorted(dag_ids)).encode()).hexdigest()


def read_summary(dag_ids: Set[str], filters: SummaryFilters) -> dict[str, Any]:
    """
    Return the summary of the newest executions.

    :param dag_ids: the DAGs that may be read.
    """
    return summarize(
        newest_xcoms(
            "run",
            dag_ids=dag_ids,
            dag=filters.dag,
            operators=what_next.START_OPERATORS,
            since=filters.since,
            limit=MAX_EXECUTIONS,
        )
    )


def summarize(batches: Iterable[XComBatch]) -> dict[str, Any]:
    """
    Return the summary of executions: the pipelines with the most failures first, then
    the dearest.

    :param batches: their XComs ``run``. What is something else is left out.
    """
    pipelines: dict[str, _Pipeline] = {}
    seen = 0
    left_out = 0
    for batch in batches:
        seen += len(batch.texts) + batch.left_out
        left_out += batch.left_out
        for run in filter(None, map(_read_run, batch.texts)):
            name = models.pipeline_name_of(run.pipeline_name)
            pipelines.setdefault(name, _Pipeline(name)).add(run)
    newest_only = None
    if seen == MAX_EXECUTIONS:
        newest_only = MAX_EXECUTIONS
    shown = sorted(pipelines.values(), key=_Pipeline.rank, reverse=True)
    return {
        "pipelines": [pipeline.as_json() for pipeline in shown[:MAX_PIPELINES]],
        "more_pipelines": max(0, len(shown) - MAX_PIPELINES),
        "newest_only": newest_only,
        "left_out": left_out,
    }


def _read_run(text: str) -> _Run | None:
    """Return a stored XCom ``run``; None if it is something else."""
    try:
        return _Run.model_validate(xcom_value(text))
    except ValidationError:
        return None
