"""
The summary above the page with all executions: how many there were of each pipeline,
how many have failed, how long they took, and what they cost.

Airflow's REST API returns the values of XComs one by one, so this reads the XComs
``run`` in the database, of the DAGs that the user may read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Annotated, Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from pydantic import BaseModel, Field, ValidationError

from polysync_airflow.airflow_compat import xcoms
from polysync_airflow.execution import models
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json
from polysync_airflow.execution.texts import ArnText
from polysync_airflow.states import PolysyncState

# The operators of the tasks that the page lists (ui/static/execution.js).
_OPERATORS: Final = ("PolysyncStartPipelineOperator", "PolysyncStepsExecutionOperator")
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

    pipeline_name: ArnText
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
        # A resumed execution has the duration of its last attempt, and a selective
        # execution is shorter.
        is_whole = run.state == PolysyncState.SUCCESS and not run.resumes
        if is_whole and not run.selected_steps and run.seconds is not None:
            self.seconds.append(run.seconds)
        # As the rows of the page have it.
        cost = run.spending or run.cost
        if cost:
            self.costs[cost.currency] += cost.amount

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


def read_summary(user: BaseUser, since: datetime | None, dag: str) -> dict[str, Any]:
    """
    Return the summary of the newest executions that a user may see.

    :param since: when their tasks have started at the earliest; None for any time.
    :param dag: a part of the ids of the DAGs.
    """
    allowed = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    batches = xcoms.newest_xcoms(
        "run",
        dag_ids=allowed,
        dag=dag,
        operators=_OPERATORS,
        since=since,
        limit=MAX_EXECUTIONS,
    )
    left_out = 0

    def values() -> Iterator[Any]:
        nonlocal left_out
        for batch in batches:
            left_out += batch.left_out
            yield from batch.texts
            # They count among the newest.
            yield from [None] * batch.left_out

    return {**summarize(values()), "left_out": left_out}


def summarize(values: Iterable[Any]) -> dict[str, Any]:
    """
    Return the summary of executions: the pipelines with the most of them first.

    :param values: their XComs ``run``, as Airflow has stored them. What is something
        else is left out.
    """
    pipelines: dict[str, _Pipeline] = {}
    read = 0
    for stored in values:
        read += 1
        value = stored
        try:
            # Older versions of Airflow store JSON as a text in JSON.
            for _ in range(2):
                if isinstance(value, str):
                    value = read_json(value, "The XCom")
            run = _Run.model_validate(value)
        except (UnreadableJsonError, ValidationError):
            continue
        name = models.pipeline_name_of(run.pipeline_name)
        pipelines.setdefault(name, _Pipeline(name)).add(run)
    newest_only = None
    if read == MAX_EXECUTIONS:
        newest_only = MAX_EXECUTIONS
    shown = sorted(pipelines.values(), key=lambda pipeline: -pipeline.runs)
    return {
        "pipelines": [pipeline.as_json() for pipeline in shown[:MAX_PIPELINES]],
        "more_pipelines": max(0, len(shown) - MAX_PIPELINES),
        "newest_only": newest_only,
    }
