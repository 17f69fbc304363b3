"""How full the triggerers are, and which one gets what must not wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from sqlalchemy import inspect

from polysync_airflow.airflow_compat import triggerers
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.triggerers import Slots
from polysync_airflow.cli.check import warning_about, warning_about_share
from tests.unit.cli.conftest import Polysync
from tests.unit.watch.rows import add_trigger, add_triggerer, remove_triggers

pytestmark = pytest.mark.usefixtures("airflow_database")
CALL = "polysync_airflow.watch.callback.stop_if_left"
NEEDS_QUEUES = pytest.mark.skipif(
    "queue" not in inspect(Trigger).columns,
    reason="before Airflow 3.2, triggers have no queue",
)


@pytest.fixture
def session() -> Iterator[Any]:
    """A session of Airflow's database without triggers and triggerers."""
    with create_session() as made:
        remove_triggers(made)
        yield made
        made.rollback()
        remove_triggers(made)


@pytest.mark.usefixtures("stopped_clock")
def test_slots_of_triggerers_that_run(session: Any) -> None:
    """Triggers of a dead triggerer wait, but not since their creation."""
    first = add_triggerer(session)
    second = add_triggerer(session)
    dead = add_triggerer(session, seconds=3600)
    ended = add_triggerer(session, ended=True)
    for triggerer in (first, first, second, dead, ended):
        add_trigger(session, triggerer, seconds=7200)
    add_trigger(session, None, seconds=5)
    add_trigger(session, None, seconds=190)

    slots = triggerers.read_slots(session, CALL)

    assert slots == Slots(2, 2000, 3, 4, 190, 0, 3 / 2000, most=2)


@pytest.mark.skipif(not CAPABILITIES.triggerer_callbacks, reason="has no callbacks")
def test_waiting_calls_are_those_of_the_watch_without_a_triggerer(session: Any) -> None:
    """Others call functions by such rows, too."""
    from airflow.models.callback import TriggererCallback

    living = add_triggerer(session)
    for path, triggerer in ((CALL, None), (CALL, living), ("other.path", None)):
        definition: Any = type("_", (), {"serialize": lambda _: {}})()
        row: Any = TriggererCallback(definition)
        row.data = {"path": path, "kwargs": {}}
        row.trigger = add_trigger(session, triggerer)
        session.add(row)
    session.commit()

    assert triggerers.read_slots(session, CALL).waiting_calls == 1


@NEEDS_QUEUES
def test_least_busy_triggerer_of_the_queue_gets_the_trigger(session: Any) -> None:
    """One that is dead, or runs triggers of other queues only, may never run it."""
    busy = add_triggerer(session)
    least_busy = add_triggerer(session)
    of_queue = add_triggerer(session)
    dead = add_triggerer(session, seconds=3600)
    for triggerer in (busy, busy, busy, least_busy, least_busy, dead):
        add_trigger(session, triggerer)
    add_trigger(session, of_queue, queue="gpu")

    found = triggerers.least_busy_triggerers(session, add_trigger(session, None))

    assert found == {None: least_busy, "gpu": of_queue}


@NEEDS_QUEUES
def test_fullest_queue_is_that_of_the_triggerers_that_serve_it(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has no triggers may serve any queue."""
    monkeypatch.setenv("AIRFLOW__TRIGGERER__CAPACITY", "4")
    full = add_triggerer(session)
    other = add_triggerer(session)
    for triggerer, queue in ((full, "a"), (full, "a"), (full, "b"), (other, "b")):
        add_trigger(session, triggerer, queue=queue)

    found = [triggerers.read_slots(session, CALL)[-3:-1]]
    add_triggerer(session)
    found.append(triggerers.read_slots(session, CALL)[-3:-1])

    assert found == [(3 / 4, "a"), (3 / 8, "a")]


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        (Slots(0, 0, 0, 0, 0, 0), None),
        (Slots(0, 0, 0, 1, 5, 0), "no triggerer runs"),
        (Slots(2, 2000, 900, 3, 60, 0, 0.9, "gpu"), None),
        (Slots(2, 2000, 950, 3, 60, 0, 0.95), "95% of the slots are taken."),
        (Slots(2, 2000, 950, 3, 60, 0, 0.95, "gpu"), "of queue gpu are taken."),
        (Slots(1, 1, 1, 1, 190, 0), "has waited for a triggerer for 190 s"),
        (Slots(2, 9000, 4000, 0, 0, 0, 0.4, most=3000), None),
        (Slots(2, 9000, 4000, 0, 0, 0, 0.4, most=3001), "runs 3001 triggers."),
        (Slots(2, 2000, 3, 3, 61, 2), "2 executions may run whose task has ended"),
    ],
)
def test_warning_about_triggerers(slots: Slots, text: str | None) -> None:
    """None where all triggers run; else what is wrong, and the cure."""
    warning = warning_about(slots)

    assert (warning is None) is (text is None)
    assert text is None or text in str(warning)


@pytest.mark.parametrize(
    ("running", "configured", "text"),
    [
        (1, "", None),
        (2, "2", None),
        (0, "2", None),
        (2, "", "2 triggerers run, and [polysync_sagemaker] triggerers is 1, so they"),
        (2, "", "more often than they should: set it to 2 for each of them"),
        (1, "4", "later than they could: set it to 1 for each of them"),
        (1, "many", "triggerers = 'many' is not valid"),
        (1, "0", "triggerers = '0' is not valid"),
    ],
)
def test_warning_about_the_number_of_triggerers(
    running: int, configured: str, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option may not say another number than there are."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__TRIGGERERS", configured)

    warning = warning_about_share(running)

    assert (warning is None) is (text is None)
    assert text is None or text in str(warning)


def test_check_tells_of_triggerers_that_do_not_share(
    session: Any, polysync: Polysync
) -> None:
    """Two run, and each counts as the only one."""
    for _ in range(2):
        add_triggerer(session)

    result = polysync("check", "--output", "json")

    assert "2 triggerers run" in result.document["triggerers"]["warning"]


def test_check_tells_of_a_trigger_that_waits(session: Any, polysync: Polysync) -> None:
    """The exit code is that of the connection."""
    add_trigger(session, add_triggerer(session))
    add_trigger(session, None, seconds=190)

    result = polysync("check", "--output", "json")

    found = result.document["triggerers"]
    assert result.code == 0
    assert (found["triggerers"], found["running"], found["waiting"]) == (1, 1, 1)
    assert "WARNING: a trigger has waited" in found["warning"]
