"""
Texts that nobody can read, in place of the record and of the XCom ``run``: no stop, no
start and no retry fails because of one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.records.keys import KEY_PREFIX
from polysync_airflow.records.serialization import from_stored, from_variable
from tests.conftest import IN_BOTH_MODES
from tests.fakes.airflow_service import DEPLOYMENT
from tests.fakes.evil_json import EVIL, NESTED, nested_value
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import TaskInstance
from tests.unit.operators.recovery.conftest import MakeSupervisor, MakeTask
from tests.unit.operators.recovery.fake_triggerer import call_on_kill, make_trigger
from tests.unit.operators.recovery.harness import Task
from tests.world import NEVER_ENDS, World

ENDED_AFTER = 300
Overwrite = Callable[[], None]


@pytest.fixture
def overwrite(monkeypatch: pytest.MonkeyPatch) -> Overwrite:
    """Returns a function after which each record is nested brackets."""
    stored = SimulatedAirflow.variable

    def read(airflow: SimulatedAirflow, key: str) -> str | None:
        return NESTED if key.startswith(KEY_PREFIX) else stored(airflow, key)

    return lambda: monkeypatch.setattr(SimulatedAirflow, "variable", read)


@pytest.mark.parametrize("kind", EVIL)
def test_variable_is_a_damaged_record(kind: str) -> None:
    """The error is that of each damaged record."""
    with pytest.raises(StoredRecordError, match="is damaged") as caught:
        from_variable(EVIL[kind], Task().key)

    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    "value", [nested_value(), {"request": nested_value()}], ids=["all", "request"]
)
def test_xcom_is_a_damaged_record(value: Any) -> None:
    """The task of a group keeps its record in one, which Airflow has decoded."""
    with pytest.raises(StoredRecordError, match="is damaged"):
        from_stored(value, Task().key, place="the XCom")


# ---- the XCom ``run``


def too_deep(*_: Any, **__: Any) -> Any:
    """Fail as Airflow does if an XCom is nested so deeply that it cannot decode it."""
    raise RecursionError


def nested(*_: Any, **__: Any) -> Any:
    """Return what Airflow can still decode, but Python cannot show."""
    return {"execution_arn": nested_value(), "parameters": nested_value()}


def edited(*_: Any, **__: Any) -> Any:
    """Return an object that is no ``run``."""
    return {"execution_arn": "foo", "state": "Running"}


def text(*_: Any, **__: Any) -> Any:
    """Return what is no object."""
    return "a text"


READS = pytest.mark.parametrize("read", [too_deep, nested, edited, text])


@READS
@IN_BOTH_MODES
@pytest.mark.parametrize(
    ("how", "status"),
    [("kill", "Stopped"), ("timeout", "Stopped"), ("end", "Succeeded")],
)
def test_run_that_was_edited_keeps_nothing_from_its_end(
    read: Callable[..., Any], how: str, status: str, make_task: MakeTask, world: World
) -> None:
    """The stop comes first; a task whose execution succeeds, succeeds."""
    if how != "end":
        world.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=1000, retries=0)
    world.patch.setattr(TaskInstance, "xcom_pull", read)
    if how == "kill":
        world.time.after(ENDED_AFTER, task.kill)

    run = task.next_try()
    world.control.advance(60)

    assert world.log.statuses == [status]
    assert (run.error is None) is (how == "end")
    if how == "end":
        assert run.xcoms["run"]["execution_arn"] == run.result
        assert run.xcoms["run"]["state"] == "Success"


@READS
def test_trigger_stops_beside_an_unreadable_run(
    read: Callable[..., Any],
    arn: str,
    overwrite: Overwrite,
    make_supervisor: MakeSupervisor,
    world: World,
) -> None:
    """Neither the record nor ``run`` can be read, and the user has ended the task."""
    supervisor = make_supervisor("failed")
    values = {DEPLOYMENT_KEY: DEPLOYMENT}
    world.patch.setattr(supervisor, "variable", lambda key: values.get(key, NESTED))
    world.patch.setattr(supervisor, "xcom", read)

    call_on_kill(make_trigger(arn))
    world.control.advance(60)

    assert world.log.statuses == ["Stopped"]
