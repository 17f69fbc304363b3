"""A deployment of Airflow: its rooms, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from polysync_airflow.execution.what_next import TaskNow, read_run, what_comes_next
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import (
    QUEUE,
    ApiServer,
    Database,
    Key,
    RuntimeTI,
    TaskInstance,
)
from tests.simulation.airflow.doors import Listeners
from tests.simulation.airflow.people import People
from tests.simulation.airflow.scheduler import Scheduler
from tests.simulation.airflow.triggerers import Triggerers
from tests.simulation.airflow.workers import Workers
from tests.simulation.journal import Journal, Owner
from tests.simulation.plans import Airflow


class Settings(Airflow):
    """
    How a deployment is set up.

    :param starting_ids: the tasks that start executions.
    """

    options: dict[tuple[str, str], str] = Field(default_factory=dict)
    starting_ids: tuple[str, ...] = ()

    @property
    def other_triggers(self) -> bool:
        """Whether each triggerer runs triggers of other DAGs."""
        return self.capacity < Airflow().capacity

    @property
    def has_queues(self) -> bool:
        """``[triggerer] queues_enabled``."""
        return self.with_queues > 0


class Deployment:
    """
    A deployment with one DAG.

    :param parse: returns its tasks by their ids, as a parse of its file does.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        settings: Settings,
        parse: Callable[[], dict[str, Any]],
        journal: Journal,
    ) -> None:
        self.name = name
        self.db = database
        self.settings = settings
        self.options = {
            ("core", "multi_team"): str(settings.team is not None),
            ("triggerer", "queues_enabled"): str(settings.has_queues),
            **settings.options,
        }
        self.parse = parse
        self.tasks = parse()
        self.journal = journal
        self.api = ApiServer(self)
        self.listeners = Listeners(self)
        self.workers = Workers(self)
        self.people = People(self)
        self.triggerers = Triggerers(self)
        self.scheduler = Scheduler(self)
        for number in range(settings.triggerers):
            self.triggerers.add(QUEUE if number < settings.with_queues else None)

    # ---- task instances

    def owner(self, key: Key) -> Owner:
        """Return the name of a task instance in the journal."""
        return Owner(self.name, *key)

    def set_state(self, ti: TaskInstance, state: str | None) -> None:
        """Give a task instance another state."""
        ti.state = state
        self.journal.note("state", str(state), self.owner(ti.key), ti.try_number)
        if state in ("up_for_retry", "failed"):
            self._note_next(ti)
        self.workers.check(ti)
        self.touch()

    def _note_next(self, ti: TaskInstance) -> None:
        """Note what tab, page and commands say of what comes next."""
        run = self.db.xcoms.get((ti.key, "run"))
        if run is None:
            return
        now = datetime.fromtimestamp(kernels.KERNEL.now, UTC)
        operator = type(self.tasks[ti.key.task_id]).__name__
        task = TaskNow(
            ti.state, ti.try_number, ti.max_tries, operator, self.db.is_paused, now
        )
        for sentence in what_comes_next(task, read_run(run), now):
            self.journal.note("next", sentence.line, self.owner(ti.key))

    def end(self, ti: TaskInstance, state: str) -> None:
        """End a task instance, as its process says."""
        ti.forget_method()
        self.set_state(ti, state)

    def told(self, ti: TaskInstance | None, text: str) -> None:
        """Note a text for people."""
        self.journal.note("told", text, self.owner(ti.key) if ti else None, self.name)

    def touch(self) -> None:
        """Let scheduler and triggerers look soon: something has changed."""
        self.scheduler.touch()
        self.triggerers.touch()

    # ---- the code of tasks

    def map_indexes(self, task_id: str) -> range:
        """Return the map indexes of the instances of a task."""
        expansion = getattr(self.tasks[task_id], "expand_input", None)
        if expansion is None:
            return range(-1, 0)
        return range(len(next(iter(expansion.value.values()))))

    def task_of(self, key: Key) -> Any:
        """Return the task of an instance, as a process gets it by a parse."""
        task = self.parse()[key.task_id]
        if key.map_index < 0:
            return task
        expanded = task.expand_input.value.items()
        return task.unmap({name: values[key.map_index] for name, values in expanded})

    def context(self, ti: TaskInstance, task: Any) -> Any:
        """Return the context of a session."""
        run = self.db.runs[ti.key.run_id]
        dag_run = SimpleNamespace(
            **vars(run), run_after=run.logical_date, team_name=self.settings.team
        )
        return {"ti": RuntimeTI(ti, task), "task": task, "dag_run": dag_run}

    def render(self, key: Key, task: Any) -> None:
        """Render the templates of a task."""
        for name in self.settings.renders_none:
            if hasattr(task, name) and kernels.KERNEL.random.random() < 0.5:
                setattr(task, name, None)
                self.journal.note("renders none", name, self.owner(key))
