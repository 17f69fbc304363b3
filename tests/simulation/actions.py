"""What people do, and what breaks: the actions of plans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import Key
from tests.simulation.airflow.deployment import Deployment
from tests.simulation.aws import Fault
from tests.simulation.kernel import Process
from tests.simulation.plans import Action

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


def _mark(_: History, deployment: Deployment, action: Action) -> Any:
    return deployment.people.mark(Key(action.run, action.task), action.value)


def _clear(_: History, deployment: Deployment, action: Action) -> Any:
    key = Key(action.run, action.task)
    return bool(deployment.people.clear(key, downstream=bool(action.value)))


def _kill_worker(_: History, deployment: Deployment, action: Action) -> Any:
    running = deployment.people.running(action.run)
    for ti in running[:1]:
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
        return _replace_triggerer(process.deployment, process)
    return True


def _kill_triggerer(_: History, deployment: Deployment, action: Action) -> Any:
    first = sorted(deployment.triggerers.running)[0]
    return _replace_triggerer(deployment, deployment.triggerers.running[first].process)


def _replace_triggerer(deployment: Deployment, process: Process) -> bool:
    running = deployment.triggerers.running
    names = [name for name, each in running.items() if each.process is process]
    for name in names:
        deployment.triggerers.kill(name)
        capacity = deployment.settings.capacity
        deployment.triggerers.add(f"t{kernels.KERNEL.now:.1f}", capacity)
    return bool(names)


def _freeze_triggerer(_: History, deployment: Deployment, action: Action) -> None:
    first = sorted(deployment.triggerers.running)[0]
    deployment.triggerers.running[first].process.freeze(action.value)


def _move(_: History, deployment: Deployment, action: Action) -> None:
    deployment.triggerers.move()


def _break_aws(history: History, _: Deployment, action: Action) -> None:
    kind, operations, seconds = action.value
    now = kernels.KERNEL.now
    history.aws.faults.append(Fault(now, now + seconds, kind, operations))


def _break_api(_: History, deployment: Deployment, action: Action) -> None:
    now = kernels.KERNEL.now
    deployment.api.outages.append((now, now + action.value))


def _copy(history: History, deployment: Deployment, action: Action) -> Any:
    if "copy" in history.deployments:
        return False
    history.add_deployment("copy", history.deployments["a"].copy_database())
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
    operations = [".*", "Start.*", "Stop.*", "Describe.*|List.*"]
    return [
        random.choice(["throttle", "error", "lost"]),
        random.choice(operations),
        random.choice([5, 60, 300]),
    ]


def _end(random: Random) -> list[Any]:
    kind = random.choice(["kill", "kill", "lose", "freeze", "signal"])
    return [kind, random.choice([10, 60, 200, 400])]


# These need a process that is in the middle of a request.
AT_REQUESTS: Final = ("stop here",)
_SECONDS: Final = _choice(10, 60, 200)
KINDS: Final[dict[str, Kind]] = {
    "mark": Kind(_choice("failed", "success"), _mark),
    "clear": Kind(_choice(True, True, False), _clear),
    "kill worker": Kind(_choice("process", "host"), _kill_worker),
    "stop here": Kind(_end, _stop_here),
    "kill triggerer": Kind(_choice(None), _kill_triggerer),
    "freeze triggerer": Kind(_SECONDS, _freeze_triggerer),
    "move": Kind(_choice(None), _move),
    "aws": Kind(_fault, _break_aws),
    "api": Kind(_SECONDS, _break_api),
    "copy": Kind(_choice(None), _copy),
    "pause": Kind(_SECONDS, _pause),
}
