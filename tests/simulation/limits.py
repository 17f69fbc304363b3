"""
The plans that must keep a limit: a table of where a task waits, and of what happens.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.simulation.plans import RUN, Plan, Task

_LIMIT: Final = 600
# The steps are listed so often, after a poll.
_INTERVAL: Final = 20
# A poll and a list are answered so late.
_ANSWER_SECONDS: Final = 2
# What the emulator needs to stop a job.
_STOP_SECONDS: Final = 20
_LATE_SECONDS: Final = _INTERVAL + _ANSWER_SECONDS + _STOP_SECONDS
_IS_KEPT: Final = {"run": {"stop": {"reason": "cost"}}}


def _plans() -> Iterator[Plan]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    for where, place in table["where"].items():
        for name, happens in table["happens"].items():
            if where in happens.get("only", [where]):
                yield _plan(f"{where}, {name}", place, happens)


def _plan(name: str, place: dict[str, Any], happens: dict[str, Any]) -> Plan:
    tasks = list(_tasks(place))
    ids = [task.main_id for task in tasks]
    before = [
        {**action, "task": task_id}
        for action in place.get("for_each", ())
        for task_id in ids
    ]
    then = [
        {**action, "at": place["at"] + action.get("at", 0)}
        for action in happens.get("actions", ())
    ]
    resumes = ["RetryPipelineExecution"] * place.get("resumes", 0)
    requests = ["StartPipelineExecution", *resumes, "StopPipelineExecution"]
    if happens.get("anew"):
        requests *= 2
    names = [f"a.{RUN}.{task_id}" for task_id in ids]
    return Plan.model_validate(
        {
            "seed": name,
            "tasks": tasks,
            "account": place["account"] | happens.get("account", {}),
            "airflow": {"triggerers": 2},
            "actions": sorted([*before, *then], key=lambda each: each.get("at", 0)),
            "expects": dict.fromkeys(names, requests),
            "shows": dict.fromkeys(names, _IS_KEPT),
            "at_most": _LIMIT + place["rate"] * _LATE_SECONDS,
        }
    )


def _tasks(place: dict[str, Any]) -> Iterator[Task]:
    """Yield a group, or a task in each mode."""
    arguments = {
        "retries": 9,
        "poll_interval": _INTERVAL,
        "progress_interval": _INTERVAL,
        "max_cost": _LIMIT,
        **place.get("arguments", {}),
    }
    if place.get("kind") == "group":
        yield Task(kind="group", id="g", arguments=arguments)
        return
    for task_id in ("deferred", "worker"):
        mode = {"deferrable": task_id == "deferred"}
        yield Task(kind="start", id=task_id, arguments=arguments | mode)


PLANS: Final = {plan.seed: plan for plan in _plans()}
