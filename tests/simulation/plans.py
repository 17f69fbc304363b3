"""
Plans: all that is decided before a history begins, as data. What is left is the order
of what happens at the same time, and how long requests take, which its seed decides.

A plan is stored as JSON. Fields that are not known are left out, fields that are
missing have the default, and an action that does not apply does nothing, so that stored
plans outlive changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from random import Random
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

STEPS: Final = ("A", "B", "C")
STARTS: Final = ("train", "deploy")
EXECUTION: Final = "execution"
SENSOR: Final = "wait"
RUN: Final = "r1"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Request(_Data):
    """
    A request of a process.

    :param role: that of the process: ``worker``, ``triggerer`` and so on.
    :param name: ``aws``, ``airflow``, an operation or the type of a message.
    :param number: which request of this name, from 1.
    :param moment: ``sent``: before it is processed; ``answered``: before the response
        is received.
    :param process: which of the processes that come so far, from 1.
    """

    role: str
    name: str
    number: int = 1
    moment: str = "answered"
    process: int = 1


class Change(_Data):
    """
    A task gets a state.

    :param number: for which time, from 1.
    """

    state: str
    number: int = 1


class Action(_Data):
    """
    Something that people do, or that breaks; see ``actions.py``.

    :param at: seconds from the beginning, or from the change.
    :param request: in the middle of which request it happens, in place of a time.
    :param change: after which change of the task it happens.
    :param task: the id of a task.
    """

    name: str
    at: float = 0.0
    request: Request | None = None
    change: Change | None = None
    deployment: str = "a"
    run: str = RUN
    task: str = ""
    map_index: int = -1
    value: Any = None


class Task(_Data):
    """
    A task, or a group.

    :param kind: see ``dags.py``.
    """

    kind: str
    id: str
    arguments: dict[str, Any] = {}

    @property
    def main_id(self) -> str:
        """The id of the task, or of that of the group which starts the execution."""
        if self.kind == "group":
            return EXECUTION
        return self.id


class Account(_Data):
    """
    How executions go in AWS.

    :param durations: those of the steps, in seconds.
    :param failing: how many attempts of the first step fail.
    :param reason: why.
    :param repeats_jobs: whether the definition has AWS repeat the first step.
    :param end_as: the status that takes the place of ``Failed``.
    :param unknown_status: whether a status is shown that AWS does not have today.
    """

    durations: dict[str, float] = dict.fromkeys(STEPS, 60.0)
    failing: int = 0
    reason: str = "InternalServerError: no"
    repeats_jobs: bool = False
    end_as: str | None = None
    unknown_status: bool = False


class Airflow(_Data):
    """
    How the deployments are set up.

    :param capacity: how many triggers of this DAG a triggerer runs. What is less than
        100 is so because of those of other DAGs.
    :param with_queues: how many of the triggerers have ``--queues default``, the queue
        of all tasks.
    :param team: that of the DAG.
    :param renders_none: arguments of tasks that a template renders to nothing, in half
        of the sessions.
    """

    triggerers: int = 1
    capacity: int = 100
    with_queues: int = 0
    dagrun_timeout: float | None = None
    team: str | None = None
    renders_none: tuple[str, ...] = ()


class Plan(_Data):
    """
    A plan.

    :param expects: for stored plans: the requests that change something for a task, as
        AWS accepts them in order, by the task's name in the journal.
    :param shows: for stored plans: what the XComs of a task have at the end, by the
        task's name: of an object these members, of a text this part.
    :param at_most: for plans of a limit: what each task may have spent at the end, from
        one clear to the next.
    """

    seed: str
    tasks: tuple[Task, ...]
    account: Account = Account()
    airflow: Airflow = Airflow()
    actions: tuple[Action, ...] = ()
    expects: dict[str, tuple[str, ...]] = {}
    shows: dict[str, dict[str, Any]] = {}
    at_most: float | None = None

    @property
    def task_ids(self) -> list[str]:
        """The ids of the tasks that actions may name."""
        ids: list[str] = []
        for task in self.tasks:
            if task.kind == "group":
                ids += STEPS
            ids.append(task.main_id)
        return ids

    @property
    def starting_ids(self) -> list[str]:
        """The ids of the tasks that start executions."""
        return [task.main_id for task in self.tasks if task.kind != "sensor"]

    def arguments_of(self, task_id: str) -> dict[str, Any]:
        """Return the arguments of the task that starts an execution."""
        for task in self.tasks:
            if task_id in (task.id, task.main_id):
                return task.arguments
        return {}


# ---- drawing


def draw(seed: str, often: Iterable[str] = ()) -> Plan:
    """
    Return the plan of a seed.

    :param often: features that are probable in the plans of all seeds.
    """
    return _Drawing(seed, often).plan()


class _Drawing:
    """
    Draws a plan. The seed also draws how probable each feature is, so that those which
    are rare come together ("swarm testing", Groce et al., ISSTA 2012).
    """

    def __init__(self, seed: str, often: Iterable[str]) -> None:
        self._seed = seed
        self._random = Random(f"plan {seed}")
        self._weights = dict.fromkeys(often, 30.0)

    def _weight(self, feature: str) -> float:
        if feature not in self._weights:
            self._weights[feature] = self._random.choice([0.0, 0.3, 1.0, 3.0])
        return self._weights[feature]

    def _has(self, feature: str, probability: float) -> bool:
        return self._random.random() < probability * self._weight(feature)

    def _maybe(
        self, feature: str, probability: float, value: Any, default: Any = None
    ) -> Any:
        if self._has(feature, probability):
            return value
        return default

    def plan(self) -> Plan:
        """Return the plan."""
        from tests.simulation.actions import COPIES

        random = self._random
        tasks = [self._task(STARTS[0])]
        if self._has("two tasks", 0.2):
            tasks.append(self._start(STARTS[1]))
        if self._has("sensor", 0.2):
            tasks.append(self._sensor())
        elif Random(f"job {self._seed}").random() < 0.3:
            # Drawn apart: all else is as in the plan of the seed without jobs.
            tasks = [_as_job(task) for task in tasks]
        plan = Plan(
            seed=self._seed,
            tasks=tuple(tasks),
            account=Account(
                durations={
                    step: random.choice([60.0, 300.0, 1500.0, 4000.0]) for step in STEPS
                },
                failing=random.choice([0, 0, 1, 9]),
                reason=random.choice(_REASONS),
                repeats_jobs=self._has("repeats_jobs", 0.3),
                end_as=self._maybe("fails partly", 0.1, _PARTLY),
                unknown_status=self._has("unknown status", 0.1),
            ),
            airflow=Airflow(
                triggerers=random.choice([1, 2, 2]),
                capacity=random.choice([1, 2]) if self._has("few slots", 0.1) else 100,
                with_queues=self._maybe("queues", 0.15, 1, 0),
                team=self._maybe("team", 0.1, "ml"),
                dagrun_timeout=self._maybe("dagrun_timeout", 0.2, 1000.0),
                renders_none=self._maybe("renders_none", 0.1, ("max_cost",), ()),
            ),
        )
        number = random.choice([0, 1, 2, 3, 4, 6, 8])
        actions = [self._action(plan) for _ in range(number)]
        if any(action.name in COPIES for action in actions):
            actions = [self._maybe_of_copy(action) for action in actions]
        actions.sort(key=lambda action: action.at)
        return plan.model_copy(update={"actions": tuple(actions)})

    def _task(self, task_id: str) -> Task:
        if self._random.random() < 0.4:
            return Task(kind="group", id="g", arguments=self._arguments())
        return self._start(task_id)

    def _start(self, task_id: str) -> Task:
        random = self._random
        arguments = {
            **self._arguments(),
            "deferrable": random.random() < 0.6,
            "retry_mode": random.choice(["new", "resume"]),
            "on_clear": random.choice(["new", "resume"]),
        }
        if "max_cost" not in arguments and self._has("does not wait", 0.1):
            arguments["wait_for_completion"] = False
        kind = self._maybe("mapped", 0.15, "mapped", "start")
        return Task(kind=kind, id=task_id, arguments=arguments)

    def _sensor(self) -> Task:
        random = self._random
        arguments = {
            "retries": random.choice([0, 1]),
            "poke_interval": random.choice([20, 60]),
            "timeout": random.choice([1000, 5000]),
            **random.choice(_SENSOR_MODES),
        }
        return Task(kind="sensor", id=SENSOR, arguments=arguments)

    def _arguments(self) -> dict[str, Any]:
        random = self._random
        arguments: dict[str, Any] = {
            "retries": random.choice([0, 0, 1, 2]),
            "poll_interval": random.choice([20, 60]),
            "stop_on_kill": not self._has("keeps_running", 0.2),
        }
        if self._has("max_cost", 0.5):
            arguments["max_cost"] = random.choice([150, 600, 1500])
        if self._has("timeout", 0.2):
            arguments["timeout"] = random.choice([500, 2000])
        if self._has("execution_timeout", 0.15):
            arguments["execution_timeout"] = random.choice([400, 1500])
        if self._has("succeeds partly", 0.2):
            arguments["on_completed_with_failures"] = "succeed"
        if self._has("on cancelled", 0.3):
            arguments["on_cancelled"] = random.choice(["skip", "retry"])
        if self._has("capacity", 0.3):
            arguments["wait_for_capacity"] = True
        return arguments

    def _action(self, plan: Plan) -> Action:
        from tests.simulation.actions import AT_REQUESTS, KINDS

        random = self._random
        weights = [self._weight(name) for name in KINDS]
        if not any(weights):
            weights = [1.0] * len(weights)
        (name,) = random.choices(list(KINDS), weights)
        values: dict[str, Any] = {
            "name": name,
            "task": random.choice([*plan.task_ids, *plan.starting_ids]),
            "run": random.choice([RUN, RUN, RUN, "r2"]),
            "value": KINDS[name].draw(random),
        }
        if name in AT_REQUESTS or self._has("at requests", 0.3):
            return Action(**values, request=self._request())
        if self._has("after changes", 0.4):
            change = Change(
                state=random.choice(_STATES), number=random.choice([1, 1, 1, 2, 3])
            )
            seconds = random.choice([0.0, 0.0, random.uniform(0, 4), 30.0, 400.0])
            return Action(**values, at=round(seconds, 1), change=change)
        limit = random.choice([15.0, 60.0, 1000.0, 5000.0])
        return Action(**values, at=round(random.uniform(0, limit), 1))

    def _maybe_of_copy(self, action: Action) -> Action:
        deployment = self._random.choice(["a", "copy"])
        return action.model_copy(update={"deployment": deployment})

    def _request(self) -> Request:
        random = self._random
        return Request(
            role=random.choice(["worker", "worker", "triggerer"]),
            name=random.choice(["aws", "airflow", *_REQUESTS]),
            number=random.choice([1, 1, 2, 3, random.randint(1, 30)]),
            moment=random.choice(["sent", "answered"]),
            process=random.choice([1, 1, 2, 3]),
        )


def _as_job(task: Task) -> Task:
    if task.kind != "start":
        return task
    return task.model_copy(update={"kind": "job"})


_PARTLY: Final = "CompletedWithFailures"
_SENSOR_MODES: Final[tuple[dict[str, Any], ...]] = (
    {"mode": "poke"},
    {"mode": "reschedule"},
    {"deferrable": True},
    {"start_from_trigger": True},
)
_REASONS: Final = (
    "InternalServerError: no",
    "CapacityError: Unable to provision requested ML compute capacity.",
)
_STATES: Final = (
    "queued",
    "running",
    "deferred",
    "scheduled",
    "up_for_retry",
    "restarting",
    "success",
    "failed",
)
_REQUESTS: Final = (
    "StartPipelineExecution",
    "RetryPipelineExecution",
    "StopPipelineExecution",
    "DescribePipelineExecution",
    "SetXCom",
    "PutVariable",
    "DeleteVariable",
    "GetTaskStates",
)


# ---- shrinking

# Without them, the rest says something else.
_KEPT: Final = {"kind", "id", "name", "task", "value", "durations", "poll_interval"}


def shrink(
    plan: Plan, fails: Callable[[Plan], bool], *, tries: int = 300
) -> tuple[Plan, int]:
    """
    Leave out of a plan what its violation does not need.

    :param fails: returns whether a plan has the same violation.
    :return: the plan, and how many were tried.
    """
    tried = 0
    simpler = _simpler(plan)
    while tried < tries and (candidate := next(simpler, None)):
        tried += 1
        if fails(candidate):
            plan = candidate
            simpler = _simpler(plan)
    return plan, tried


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Yield plans with one thing less, the greatest first: what is left out is default."""
    data = plan.model_dump(exclude_defaults=True)
    for part in ("actions", "airflow", "account", "tasks"):
        for simpler in _less(data.get(part, ())):
            with suppress(ValidationError):
                yield Plan.model_validate({**data, part: simpler})


def _less(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        for key in sorted(data.keys() - _KEPT):
            yield {name: data[name] for name in data if name != key}
            for simpler in _less(data[key]):
                yield {**data, key: simpler}
    if isinstance(data, tuple):
        half = len(data) // 2
        if half > 1:
            yield data[half:]
            yield data[:half]
        for number, each in enumerate(data):
            before = data[:number]
            after = data[number + 1 :]
            yield (*before, *after)
            for simpler in _less(each):
                yield (*before, simpler, *after)
