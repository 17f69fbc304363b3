"""What people do, and what breaks: the actions of plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError, ReadTimeoutError

from polysync_airflow.records.keys import KEY_PREFIX
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import Database, Key
from tests.simulation.airflow.deployment import Deployment
from tests.simulation.aws import CONSOLE, REGION, Fault
from tests.simulation.kernel import Process
from tests.simulation.plans import RUN, Action

if TYPE_CHECKING:
    from tests.simulation.history import History


Act = Callable[["History", Deployment, Action], Any]


@dataclass(frozen=True)
class Kind:
    """
    A kind of actions.

    :param draw: returns its ``value``.
    :param act: does it; returns False if it does not apply.
    """

    draw: Callable[[Random], Any]
    act: Act


def _key(action: Action) -> Key:
    return Key(action.run, action.task, action.map_index)


def _mark(_: History, deployment: Deployment, action: Action) -> Any:
    return deployment.people.mark(_key(action), action.value)


def _clear(_: History, deployment: Deployment, action: Action) -> Any:
    return deployment.people.clear(
        _key(action), downstream=bool(action.value), upstream=action.value == "upstream"
    )


def _mark_run(_: History, deployment: Deployment, action: Action) -> Any:
    return deployment.people.mark_run(action.run, action.value)


def _clear_run(_: History, deployment: Deployment, action: Action) -> Any:
    key = Key(action.run, "")
    return deployment.people.clear(key, only_failed=bool(action.value))


def _delete_run(_: History, deployment: Deployment, action: Action) -> Any:
    """Delete a DAG run, which must first end; create another one with its id."""
    people = deployment.people
    run = deployment.db.runs.get(action.run)
    if run is not None and run.state == "running":
        people.mark_run(action.run, "failed")
    return people.delete_run(action.run) and (
        action.value == "only" or people.start_run(action.run)
    )


def _kill_worker(_: History, deployment: Deployment, action: Action) -> Any:
    running = deployment.people.running(action.run)
    for ti in running[:1]:
        if action.value == "evict":
            deployment.workers.evict(ti)
        else:
            deployment.workers.lose(ti, with_host=action.value == "host")
    return bool(running)


def _stop_here(history: History, _: Deployment, action: Action) -> Any:
    """Kill, freeze or signal the process that has come to a request."""
    process = history.interrupted
    if process is None:
        return False
    kind, seconds = action.value
    if kind == "freeze":
        process.freeze(seconds)
    elif kind == "signal":
        process.signal()
    elif process.role == "worker":
        ti = process.deployment.db.tis.get(Key(*process.owner[1:]))
        if ti is None or ti.process is not process:
            return False
        process.deployment.workers.lose(ti, with_host=kind == "lose")
    elif process.role == "triggerer":
        return process.deployment.triggerers.replace(process.name)
    return True


def _kill_triggerer(_: History, deployment: Deployment, action: Action) -> bool:
    return deployment.triggerers.replace(min(deployment.triggerers.running))


def _freeze_triggerer(_: History, deployment: Deployment, action: Action) -> None:
    running = deployment.triggerers.running
    running[min(running)].process.freeze(action.value)


def _break_api(_: History, deployment: Deployment, action: Action) -> None:
    deployment.api.go_down(action.value, of_database=action.name == "database")


def _break_aws(history: History, _: Deployment, action: Action) -> None:
    kind, operations, seconds, *share = action.value
    now = kernels.KERNEL.now
    history.aws.faults.append(Fault(now, now + seconds, kind, operations, *share))


def _stop_in_aws(history: History, _: Deployment, action: Action) -> Any:
    """Somebody stops the newest execution in the console."""
    running = [each for each in history.aws.attempts if each.ended_at == math.inf]
    if not running:
        return False
    request = {"PipelineExecutionArn": running[-1].arn, "ClientRequestToken": "x" * 32}
    console: Any = SimpleNamespace(name=CONSOLE, options={})
    process = Process(CONSOLE, CONSOLE, console)

    def stop() -> None:
        with suppress(ClientError, ReadTimeoutError):
            history.aws.call("StopPipelineExecution", request)

    kernels.KERNEL.spawn(process, stop, "stop")
    return True


def _lose_records(_: History, deployment: Deployment, action: Action) -> Any:
    records = _records(deployment)
    for key in records:
        del deployment.db.variables[key]
    return bool(records)


def _edit_records(_: History, deployment: Deployment, action: Action) -> Any:
    records = _records(deployment)
    for key, text in records.items():
        deployment.db.variables[key] = text.replace(REGION, "eu-west-1")
    return bool(records)


def _records(deployment: Deployment) -> dict[str, str]:
    return {
        key: value
        for key, value in deployment.db.variables.items()
        if key.startswith(KEY_PREFIX)
    }


def _import(history: History, deployment: Deployment, action: Action) -> Any:
    """Import all Variables into a new deployment with the same DAG and run id."""
    if "copy" in history.deployments:
        return False
    database = Database(variables=dict(deployment.db.variables))
    history.add_deployment("copy", database)
    return history.deployments["copy"].people.start_run(RUN)


def _copy(history: History, deployment: Deployment, action: Action) -> Any:
    if "copy" in history.deployments:
        return False
    history.add_deployment("copy", deepcopy(deployment.db))
    return True


def _pause(_: History, deployment: Deployment, action: Action) -> None:
    deployment.people.pause(True)

    def unpause() -> None:
        kernels.KERNEL.sleep(action.value)
        deployment.people.pause(False)

    people = kernels.KERNEL.process
    kernels.KERNEL.spawn(people, unpause, "unpause")


def _choice(*values: Any) -> Callable[[Random], Any]:
    return lambda random: random.choice(values)


def _fault(random: Random) -> list[Any]:
    operations = random.choice([".*", "Start.*|Retry.*", "Stop.*", "Describe.*|List.*"])
    kinds = ["throttle", "error", "lost"]
    if operations.startswith("S"):
        kinds += ["conflict", "denied"]
    if operations.startswith("Start"):
        kinds += ["limit", "limit", "refused"]
    seconds = random.choice([5, 60, 300])
    return [random.choice(kinds), operations, seconds, random.choice([0.5, 1.0])]


def _end(random: Random) -> list[Any]:
    kind = random.choice(["kill", "kill", "lose", "freeze", "signal"])
    return [kind, random.choice([10, 60, 200, 400])]


# These need a process that is in the middle of a request.
AT_REQUESTS: Final = ("stop here",)
# These make another deployment of "a".
COPIES: Final = ("copy", "import")
_NOTHING: Final = _choice(None)
_SECONDS: Final = _choice(10, 60, 200)
KINDS: Final[dict[str, Kind]] = {
    "mark": Kind(_choice("failed", "success", "skipped"), _mark),
    "clear": Kind(_choice(True, True, False, "upstream"), _clear),
    "mark run": Kind(_choice("failed", "success"), _mark_run),
    "clear run": Kind(_choice(True, False), _clear_run),
    "delete run": Kind(_choice("only", "again"), _delete_run),
    "delete dag": Kind(_NOTHING, lambda _, on, __: on.people.delete_dag()),
    "test task": Kind(_NOTHING, lambda _, on, act: on.people.test_task(_key(act))),
    "sweep": Kind(_NOTHING, lambda _, on, __: on.people.sweep()),
    "kill worker": Kind(_choice("process", "host", "evict"), _kill_worker),
    "stop here": Kind(_end, _stop_here),
    "kill triggerer": Kind(_NOTHING, _kill_triggerer),
    "freeze triggerer": Kind(_SECONDS, _freeze_triggerer),
    "move": Kind(_NOTHING, lambda _, on, __: on.triggerers.move()),
    "aws": Kind(_fault, _break_aws),
    "api": Kind(_SECONDS, _break_api),
    "database": Kind(_SECONDS, _break_api),
    "stop in AWS": Kind(_NOTHING, _stop_in_aws),
    "lose records": Kind(_NOTHING, _lose_records),
    "edit records": Kind(_NOTHING, _edit_records),
    "start run": Kind(_NOTHING, lambda _, on, __: on.people.start_run("r2")),
    "copy": Kind(_NOTHING, _copy),
    "import": Kind(_NOTHING, _import),
    "pause": Kind(_SECONDS, _pause),
}
