"""
What histories have reached: the transitions of the machine's table, and what happened
while a task was where.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.execution.lifecycle import machine
from tests.simulation.airflow.database import ENDED, TaskInstance

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

COUNTS: Final[Counter[str]] = Counter()
# Where a task may be when something happens.
PLACES: Final = (
    "queued",
    "before its start",
    "start in flight",
    "waits on a worker",
    "deferred",
    "waits for capacity",
    "has fired",
    "waits for its retry",
    "has ended",
)
# What is not reached, and why.
_NEVER: Final = (
    (
        "delete dag: (before its start|start in flight|waits on a worker)",
        "Airflow deletes no DAG with a task that runs",
    ),
    (
        r"DESCRIBE\w* Refused -> \w+",
        "plans let AWS refuse no description for good, and AWS forgets no execution",
    ),
    (
        "DESCRIBE_STARTED Described -> (ADD_UP|PREPARE|RESUME|WAIT_FOR_END)",
        "an execution is found by its name before its token is sent again",
    ),
)
_FOLLOWS: Final = " -> "
_START: Final = "StartPipelineExecution"
_AFTER_PAUSE: Final = "execute_after_pause"


def observe(modules: list[ModuleType]) -> None:
    """Count the transitions of all drivers."""
    after = machine.after

    def counted(instruction: Any, event: Any) -> Any:
        following = after(instruction, event)
        COUNTS[_transition(instruction.command, type(event), following.command)] += 1
        return following

    for module in modules:
        for name, value in list(vars(module).items()):
            if value is after:
                setattr(module, name, counted)


def _transition(command: Any, event: type, following: Any) -> str:
    return f"{command.name} {event.__name__}{_FOLLOWS}{following.name}"


def _transitions(more: Mapping[Any, Any]) -> set[str]:
    """
    Return the transitions of the table.

    :param more: what may follow each command besides.
    """
    return {
        _transition(command, event, following)
        for command, own in machine.TRANSITIONS.items()
        for event, transition in {**more, **own}.items()
        for following in transition.follows
    }


def _wanted() -> set[str]:
    from tests.simulation.actions import KINDS

    names = _transitions({}) | {
        _pair(kind, place) for kind in KINDS for place in PLACES
    }
    return {name for name in names if _why_never(name) is None}


def _why_never(name: str) -> str | None:
    return next((why for never, why in _NEVER if re.fullmatch(never, name)), None)


def missing(counts: Counter[str], *, from_many: bool) -> list[str]:
    """
    Return what was not reached.

    :param from_many: whether all pairs and transitions are wanted. A few histories must
        only do each action, find a task in each place, and get from each command to
        another one.
    """
    if from_many:
        return sorted(_wanted() - set(counts))
    found = {part for name in counts for part in _parts(name)}
    return sorted({part for name in _wanted() for part in _parts(name)} - found)


def unexpected(counts: Counter[str]) -> list[str]:
    """Return transitions that the table does not have, and what is never reached."""
    table = _transitions(machine._AFTER_ANY_COMMAND)
    found = [name for name in counts if _FOLLOWS in name and name not in table]
    for name in counts:
        why = _why_never(name)
        if why:
            found.append(f"{name}, although {why}")
    return sorted(found)


def _parts(name: str) -> list[str]:
    if _FOLLOWS in name:
        return [name.partition(" ")[0]]
    return name.split(": ")


def places(deployment: Deployment) -> list[str]:
    """Return where the tasks are that start executions."""
    return [
        _place_of(ti)
        for ti in deployment.db.tis.values()
        if ti.key.task_id in deployment.settings.starting_ids
    ]


def happened(name: str, places: list[str]) -> None:
    """Count what has happened to tasks that were in these places."""
    COUNTS.update(_pair(name, place) for place in places)


def _pair(name: str, place: str) -> str:
    return f"{name}: {place}"


def _place_of(ti: TaskInstance) -> str:
    if ti.state in ENDED:
        return "has ended"
    if ti.state == "up_for_retry":
        return "waits for its retry"
    if ti.state == "deferred" and ti.next_method == _AFTER_PAUSE:
        return "waits for capacity"
    if ti.state == "deferred":
        return "deferred"
    if ti.state == "scheduled" or (ti.state == "queued" and ti.next_method):
        return "has fired"
    if ti.state != "running" or ti.process is None:
        return "queued"
    sent = ti.process.requests["sent", _START]
    answered = ti.process.requests["received", _START]
    if sent > answered:
        return "start in flight"
    return "waits on a worker" if sent else "before its start"
