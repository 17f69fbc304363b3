"""
The metrics of tasks: executions by what happened to them, and refreshes of credentials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.auth.sts import RefreshingCredentials
from polysync_airflow.exceptions import CredentialsError
from tests.fakes.metrics import StatsdServer
from tests.tasks import EmulatedTime
from tests.unit.auth.sign_in.test_refresh import Issuer, use
from tests.unit.operators.recovery.harness import MERGE_FAILS_ONCE, Task, crash
from tests.world import NEVER_ENDS, START, RequestInterceptor, World

PLACE = {"connection": "polysync_default", "region": "us-east-1"}


def started_and(*names: str) -> dict[str, float]:
    """Return the metrics of one execution that was started and ended in these ways."""
    return {"started": 1.0, **dict.fromkeys(names, 1.0)}


def crash_after_start(task: Task, interceptor: RequestInterceptor) -> None:
    """Let the process die before it has read the response to its start request."""
    interceptor.after(START, crash)
    task.next_try()


def fail_once(task: Task, _: RequestInterceptor) -> None:
    """Let the execution of the first try fail."""
    task.next_try()


def nothing(*_: Any) -> None:
    """Do nothing before the try."""


CASES: list[
    tuple[str, dict[str, Any], dict[str, Any], Callable[..., Any], dict[str, float]]
] = [
    ("success", {}, {}, nothing, started_and("ended Success")),
    ("failure", MERGE_FAILS_ONCE, {}, nothing, started_and("ended Failed")),
    (
        "timeout",
        NEVER_ENDS,
        {"timeout": 600},
        nothing,
        started_and("ended TimedOut", "stopped"),
    ),
    (
        "resumed",
        MERGE_FAILS_ONCE,
        {"retry_mode": "resume"},
        fail_once,
        started_and("ended Failed", "resumed", "ended Success"),
    ),
    ("found by the next try", {}, {}, crash_after_start, started_and("ended Success")),
]


@pytest.mark.parametrize(
    ("scenario", "arguments", "before", "expected", "deferrable"),
    [
        pytest.param(
            *values, deferrable, id=f"{name}-{'deferred' if deferrable else 'sync'}"
        )
        for name, *values in CASES
        for deferrable in ([False, True] if name == "timeout" else [True])
    ],
)
def test_each_execution_is_counted_once(
    deferrable: bool,
    scenario: dict[str, Any],
    arguments: dict[str, Any],
    before: Callable[..., Any],
    expected: dict[str, float],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    statsd: StatsdServer,
) -> None:
    """Also where a try goes on with what an earlier one has started."""
    world.control.put_scenario(scenario, "fanout")
    task = Task(deferrable, arguments)
    before(task, RequestInterceptor(monkeypatch))

    task.next_try()

    def counted() -> dict[str, float]:
        found = {}
        for name, series in list(statsd.counters.items()):
            for tags, value in list(series.items()):
                if name.startswith("polysync.executions."):
                    given = dict(tags)
                    state = given.pop("state", "")
                    assert given == PLACE
                    found[f"{name.rpartition('.')[2]} {state}".strip()] = value
        return found

    statsd.wait_for(lambda: counted() == expected)
    assert not statsd.unreadable


def test_wait_that_no_trigger_has_ended_is_counted(
    world: World, statsd: StatsdServer
) -> None:
    """Beside its end, and the stop of its execution."""
    world.control.put_scenario(NEVER_ENDS)
    task = Task(deferrable=True, arguments={"timeout": 600})

    task.end_deferral(task.defer())

    name = "polysync.waits.without_trigger"
    statsd.wait_for(lambda: statsd.total(name, **PLACE) == 1)


def test_refreshes_of_credentials_are_counted(
    emulated_time: EmulatedTime, statsd: StatsdServer
) -> None:
    """A failed attempt counts once, however many threads wait for it."""
    issuer = Issuer(lifetime=3600)
    issuer.error = CredentialsError("STS does not respond", permanent=False)
    credentials = RefreshingCredentials(issuer.fetch, "assume-role")
    for _ in range(3):
        with pytest.raises(CredentialsError):
            use(credentials)
    issuer.error = None
    emulated_time.sleep(2)
    use(credentials)

    statsd.wait_for(
        lambda: (
            statsd.total("polysync.credentials.refreshed", method="assume-role") == 1
        )
    )
    statsd.wait_for(
        lambda: statsd.total("polysync.credentials.failed", method="assume-role") == 1
    )
