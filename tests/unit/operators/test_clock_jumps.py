"""Waits while the clock of the host jumps by an hour."""

from __future__ import annotations

import pytest

from polysync_airflow.execution import clock
from tests.conftest import IN_BOTH_MODES
from tests.tasks import EmulatedTime, run_task
from tests.unit.operators.test_start import make_task
from tests.world import RUNS_ON, STOP, World

HOUR = 3600.0


class JumpingClock(clock.Clock):
    """The clock of a host, whose Unix time is ``ahead`` of that of AWS."""

    def __init__(self, time: EmulatedTime) -> None:
        self._time = time
        self.ahead = 0.0
        self.monotonic = time.monotonic  # type: ignore[method-assign]
        self.sleep = time.sleep  # type: ignore[method-assign]
        self.timeout = time.timeout  # type: ignore[method-assign]

    def time(self) -> float:
        """Return the Unix time of the host."""
        return self._time.time() + self.ahead


@pytest.mark.parametrize(
    ("ahead", "is_refused"), [(HOUR, True), (-HOUR, True), (-HOUR, False)]
)
@IN_BOTH_MODES
def test_wait_goes_on_while_the_clock_jumps(
    deferrable: bool, ahead: float, is_refused: bool, world: World
) -> None:
    """
    A deadline is not reached by a time that AWS refuses, and polls are not late. What
    AWS accepts is the time from then on.
    """
    world.control.put_scenario(RUNS_ON)
    host = JumpingClock(world.time)
    begin = world.time.time()

    def jump() -> None:
        host.ahead = ahead
        if is_refused:
            world.control.add_fault("error", code="RequestExpired", message="late")

    def jump_back() -> None:
        host.ahead = 0.0
        world.control.remove_faults()

    world.time.after(100, jump)
    if is_refused:
        world.time.after(400, jump_back)

    with clock.replaced_by(host):
        run = run_task(make_task(deferrable=deferrable, timeout=3000))

    assert run.error is None
    assert run.xcoms["state"] == "Success"
    assert world.calls(STOP) == []
    assert world.time.time() - begin < 1600
