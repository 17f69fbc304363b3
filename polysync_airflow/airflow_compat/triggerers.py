"""
The triggerers that run now, as Airflow's database has them.

It has neither how many triggers one of them may run nor which queues it serves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Set
from datetime import timedelta
from typing import Any, NamedTuple

from airflow.jobs.job import Job
from airflow.models.trigger import Trigger
from airflow.providers.common.compat.sdk import conf
from sqlalchemy import Text, case, cast, func, or_, select

from polysync_airflow.airflow_compat import reads
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import clock

if CAPABILITIES.triggerer_callbacks:
    from airflow.models.callback import TriggererCallback


class Slots(NamedTuple):
    """
    How full the triggerers are.

    :param triggerers: how many of them run.
    :param capacity: how many triggers they may run together, if all have the
        configuration of this process.
    :param running: how many triggers they run.
    :param waiting: how many triggers none of them runs.
    :param seconds: for how long the oldest of these has waited for its first run.
    :param waiting_calls: how many of these call a function of a listener.
    :param taken: which share of the slots of the fullest queue is taken. The triggerers
        count that run triggers of this queue and one team, or none at all.
    :param queue: the fullest queue; None if its triggers have no queue.
    :param most: how many triggers that triggerer runs which runs the most.
    """

    triggerers: int
    capacity: int
    running: int
    waiting: int
    seconds: float
    waiting_calls: int
    taken: float = 0.0
    queue: str | None = None
    most: int = 0


def read_slots(session: Any, path: str) -> Slots:
    """
    Return how full the triggerers are.

    :param path: the import path of the function whose calls are counted.
    """
    living = _living()
    triggers = select(func.count(Trigger.id))
    is_new = Trigger.triggerer_id.is_(None)
    waits = or_(is_new, Trigger.triggerer_id.not_in(living))
    ids = {row.id for row in reads.rows(living, session)}
    taken, queue, most = _fullest_queue(session, ids)
    oldest = reads.value(select(func.min(Trigger.created_date)).where(is_new), session)
    seconds = 0.0
    if oldest is not None:
        seconds = max((clock.now() - oldest).total_seconds(), 0)
    return Slots(
        triggerers=len(ids),
        capacity=len(ids) * _capacity(),
        running=reads.value(triggers.where(Trigger.triggerer_id.in_(living)), session),
        waiting=reads.value(triggers.where(waits), session),
        seconds=seconds,
        waiting_calls=_waiting_calls(session, path, waits),
        taken=taken,
        queue=queue,
        most=most,
    )


def _fullest_queue(session: Any, triggerers: Set[int]) -> tuple[float, str | None, int]:
    """
    Return which share of the slots of its triggerers is taken, the queue, and the most
    triggers of one triggerer.

    :param triggerers: the ids of the jobs of those that run.
    """
    # Before Airflow 3.2, triggers have no queue; before 3.3, no team.
    groups = [
        getattr(Trigger, name)
        for name in ("queue", "team_name")
        if hasattr(Trigger, name)
    ]
    query = (
        select(Trigger.triggerer_id, func.count(Trigger.id), *groups)
        .where(Trigger.triggerer_id.in_(triggerers))
        .group_by(Trigger.triggerer_id, *groups)
    )
    running: Counter[int] = Counter()
    of_queue: defaultdict[tuple[str | None, ...], set[int]] = defaultdict(set)
    for triggerer, count, *group in reads.rows(query, session):
        running[triggerer] += count
        of_queue[tuple(group)].add(triggerer)
    # Which queues they serve is not known.
    idle = triggerers - running.keys()
    fullest: tuple[float, str | None] = (0.0, None)
    for group, ids in of_queue.items():
        slots = len(ids | idle) * _capacity()
        taken = sum(running[triggerer] for triggerer in ids) / max(slots, 1)
        if taken > fullest[0]:
            fullest = (taken, next(iter(group), None))
    return *fullest, max(running.values(), default=0)


def _living() -> Any:
    """Return the query of the triggerers that run (``Trigger.assign_unassigned``)."""
    threshold = conf.getfloat(
        "triggerer", "triggerer_health_check_threshold", fallback=30.0
    )
    return select(Job.id).where(
        Job.job_type == "TriggererJob",
        Job.end_date.is_(None),
        Job.latest_heartbeat > clock.now() - timedelta(seconds=threshold),
    )


def _capacity() -> int:
    option = "capacity"
    if not CAPABILITIES.task_sdk:
        option = "default_capacity"
    capacity: int = conf.getint("triggerer", option, fallback=1000)
    return capacity


def _waiting_calls(session: Any, path: str, waits: Any) -> int:
    if not CAPABILITIES.triggerer_callbacks:
        return 0
    data = TriggererCallback.data
    # As all databases write JSON. The arguments of no call leave the database.
    named = cast(data, Text).contains(f'"path": "{path}"', autoescape=True)
    query = (
        select(func.count(TriggererCallback.id))
        .join(TriggererCallback.trigger)
        .where(waits, case((reads.fits(data), named)))
    )
    number: int = reads.value(query, session)
    return number


def least_busy_triggerers(session: Any, trigger: Any) -> dict[str | None, int]:
    """
    Return which triggerers run a trigger even if they have no free slot: the id of the
    job of that with the fewest triggers, by the queue of these.

    A triggerer runs all triggers that are assigned to it. Its capacity counts only when
    it assigns them to itself (``assign_unassigned`` and ``ids_for_triggerer`` of
    ``Trigger``). Where a queue is missing, no triggerer of it runs, or one with free
    slots only, which assigns the trigger to itself.

    :param trigger: the row, which has the team.
    """
    query = (
        select(Trigger.queue, Trigger.triggerer_id)
        .where(Trigger.triggerer_id.in_(_living()))
        .group_by(Trigger.queue, Trigger.triggerer_id)
        .order_by(func.count(Trigger.id).desc())
    )
    # Before Airflow 3.3, triggers have no team.
    if hasattr(Trigger, "team_name"):
        query = query.where(Trigger.team_name == trigger.team_name)
    rows = reads.rows(query, session)
    return {row.queue: row.triggerer_id for row in rows}
