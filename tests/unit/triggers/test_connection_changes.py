"""
Connections that are deleted, replaced or cannot be read while triggers wait with them.
"""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import configuration
from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ConnectionResult,
    ErrorResponse,
    GetConnection,
)

from polysync_airflow import airflow_compat
from polysync_airflow.aws import rate_limiter
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.triggers import poller
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.tasks import EmulatedTime
from tests.unit.triggers.test_poller import (
    all_events,
    make_trigger,
    poll,
    start_executions,
    wait_until_no_thread_is_left,
)
from tests.world import LIST, World

ENVIRONMENT_VARIABLE = "AIRFLOW_CONN_POLYSYNC_DEFAULT"
NOT_FOUND = ErrorResponse(
    error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": "polysync_default"}
)
DENIED = ErrorResponse(error=ErrorType.PERMISSION_DENIED, detail={"status_code": 403})
UNREACHABLE = AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))
# Executions of this pipeline take 500 seconds.
PIPELINE = "fanout"


class Supervisor:
    """
    Answers the triggerer's requests for a connection, like ``TriggerCommsDecoder`` of
    Airflow's triggerer.

    ``answer`` is the response, or an error to raise; ``threads`` has the thread of each
    request.
    """

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.threads: list[str] = []
        self.before: Callable[[], Any] = lambda: None

    def send(self, msg: Any) -> Any:
        """Return the response."""
        if not isinstance(msg, GetConnection):
            return None
        self.threads.append(threading.current_thread().name)
        self.before()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def supervisor(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """
    A supervisor that has the connection, which is in Airflow's database and in no
    environment variable.
    """
    monkeypatch.delenv(ENVIRONMENT_VARIABLE)
    supervisor = Supervisor(stored_connection(emulator))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


def stored_connection(emulator: EmulatorServer, **fields: Any) -> ConnectionResult:
    """Return the connection to the emulator as the API server returns it."""
    values = json.loads(connection(endpoint_url=emulator.endpoint_url, **fields))
    values["extra"] = json.dumps(values["extra"])
    return ConnectionResult(
        conn_id="polysync_default", host=None, port=None, schema=None, **values
    )


class SecretsBackend(BaseSecretsBackend):
    """A secrets backend that does not respond, and knows no connection when it does."""

    responds = True

    def get_connection(self, conn_id: str, team_name: str | None = None) -> None:
        """Return None, which is "not found"."""
        if not self.responds:
            raise ConnectionError("the vault is sealed")


@pytest.fixture
def secrets_backend(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[SecretsBackend]]:
    """Configure the secrets backend of the deployment."""
    monkeypatch.setenv(
        "AIRFLOW__SECRETS__BACKEND", f"{__name__}.{SecretsBackend.__name__}"
    )
    # Airflow 3.3.1 has no such cache yet.
    monkeypatch.setattr(configuration, "_secrets_backend_cache", {}, raising=False)
    yield SecretsBackend
    SecretsBackend.responds = True


@pytest.mark.parametrize("poll_interval", [5.0, 86400.0])
def test_deleted_connection_ends_all_waits_soon(
    poll_interval: float, world: World, supervisor: Supervisor, gate: threading.Event
) -> None:
    """
    However rare its polls are, each wait with a deleted connection ends with an error
    that names it.
    """
    waits = [
        make_trigger(arn, world.time.time(), poll_interval=poll_interval)
        for arn in start_supervised_executions(world.emulator, supervisor, 10)
    ]
    deleted_at = world.time.time() + 100
    world.time.after(100, lambda: setattr(supervisor, "answer", NOT_FOUND))

    events = all_events(waits, gate)

    assert 20 <= world.time.time() - deleted_at <= 100
    assert {event[0]["outcome"] for event in events} == {"refused"}
    assert all("'polysync_default'" in event[0]["message"] for event in events)


def start_supervised_executions(
    emulator: EmulatorServer, supervisor: Supervisor, count: int
) -> list[str]:
    """Start executions; afterwards the supervisor has counted no requests."""
    arns = start_executions(emulator, count, PIPELINE)
    supervisor.threads.clear()
    return arns


def test_triggerer_that_takes_over_after_the_deletion_ends_the_waits(
    emulated_time: EmulatedTime, supervisor: Supervisor, gate: threading.Event
) -> None:
    """
    If no wait of the process has ever read the connection, all waits share the reads
    that do not find it.
    """
    # Each of another pipeline, so that each needs calls of its own.
    arns = [
        f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/p{n}/execution/{n:012}"
        for n in range(30)
    ]
    begin = emulated_time.time()
    supervisor.answer = NOT_FOUND

    events = all_events(
        [make_trigger(arn, begin, poll_interval=5.0) for arn in arns], gate
    )

    assert {event[0]["outcome"] for event in events} == {"refused"}
    assert emulated_time.time() - begin <= 60
    # Each read that does not find the connection is one request of Airflow's and one of
    # the provider's.
    assert len(supervisor.threads) <= 2 * 60 / 5


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(NOT_FOUND, 15), (UNREACHABLE, 300), (DENIED, 300), (ValueError("no"), 300)],
    ids=["not found", "unreachable", "denied", "unexpected"],
)
def test_connection_that_cannot_be_read_for_a_while_ends_no_wait(
    answer: Any,
    seconds: float,
    world: World,
    supervisor: Supervisor,
    gate: threading.Event,
) -> None:
    """
    Polls go on with what was read before, and reads come sooner. Only "not found" for
    20 s is a deletion.
    """
    arns = start_supervised_executions(world.emulator, supervisor, 3)
    found = supervisor.answer
    # Just before the connection is read.
    world.time.after(115, lambda: setattr(supervisor, "answer", answer))
    world.time.after(115 + seconds, lambda: setattr(supervisor, "answer", found))

    events = poll(arns, world, gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    assert len(supervisor.threads) > seconds / 10


@pytest.mark.parametrize(("responds", "outcome"), [(False, "ended"), (True, "refused")])
def test_not_found_counts_only_if_the_secrets_backend_responds(
    responds: bool,
    outcome: str,
    world: World,
    supervisor: Supervisor,
    secrets_backend: type[SecretsBackend],
    gate: threading.Event,
) -> None:
    """
    While the secrets backend does not respond, Airflow does not find its connections:
    that ends no wait.
    """
    arns = start_supervised_executions(world.emulator, supervisor, 3)

    def lose_connection() -> None:
        supervisor.answer = NOT_FOUND
        secrets_backend.responds = responds

    world.time.after(100, lose_connection)

    events = poll(arns, world, gate)

    assert [event[0]["outcome"] for event in events] == 3 * [outcome]


def test_all_waits_share_one_read_and_one_client(
    world: World, supervisor: Supervisor, gate: threading.Event
) -> None:
    """
    50 waits of 500 s take a read every minute, in a thread beside the event loop, and
    no new client.
    """
    arns = start_supervised_executions(world.emulator, supervisor, 50)
    clients: list[Any] = []
    for seconds in (100, 400):
        world.time.after(
            seconds,
            lambda: clients.append(
                next(iter(poller._POLLERS.values())).client.hook.conn
            ),
        )

    events = poll(arns, world, gate)

    assert [event[0]["status"] for event in events] == 50 * ["Succeeded"]
    assert 7 <= len(supervisor.threads) <= 12
    assert "MainThread" not in supervisor.threads
    assert clients[0] is clients[1]


def test_another_connection_may_be_allowed_to_list(
    world: World, supervisor: Supervisor, gate: threading.Event
) -> None:
    """
    After a denied listing, executions are described one by one, until the connection
    has other keys.
    """
    world.deny(LIST, count=1)
    arns = start_executions(world.emulator, 3, PIPELINE) + start_executions(
        world.emulator, 3, "churn-tuning"
    )
    allowed = stored_connection(world.emulator, login="AKIAALLOWEDEXAMPLE00")
    world.time.after(300, lambda: setattr(supervisor, "answer", allowed))

    events = poll(arns, world, gate)

    assert [event[0]["status"] for event in events] == 6 * ["Succeeded"]
    keys = [call["access_key_id"] for call in world.control.calls(LIST)]
    assert len(keys) > 1
    assert set(keys[1:]) == {"AKIAALLOWEDEXAMPLE00"}


def test_hung_read_has_a_time_limit_and_leaves_no_thread_of_the_pool(
    world: World,
    supervisor: Supervisor,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A read that Airflow never answers ends no wait, blocks no later read, and keeps no
    pool alive.
    """
    monkeypatch.setattr(airflow_compat.supervisor, "TIMEOUT_SECONDS", 0.2)
    (arn,) = start_supervised_executions(world.emulator, supervisor, 1)
    hung = list[threading.Thread]()
    released = threading.Event()

    def hang_once() -> None:
        if not hung:
            hung.append(threading.current_thread())
            released.wait(20)

    world.time.after(100, lambda: setattr(supervisor, "before", hang_once))

    ((event,),) = poll([arn], world, gate)

    assert event["status"] == "Succeeded"
    wait_until_no_thread_is_left()
    # Later reads do not wait for it.
    assert len(supervisor.threads) > 5
    (thread,) = hung
    assert (thread.is_alive(), thread.daemon) == (True, True)
    released.set()
    thread.join(10)


def test_no_rate_limiter_is_left_of_connections_that_are_not_used_any_more(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A triggerer that has waited with five connections, one after the other, keeps
    nothing of them.
    """
    gc.collect()
    before = count_rate_limiters()
    for number in range(5):
        monkeypatch.setenv(
            f"AIRFLOW_CONN_TEAM{number}",
            connection(endpoint_url=world.emulator.endpoint_url),
        )
        (arn,) = start_executions(world.emulator, 1)
        wait = make_trigger(arn, world.time.time(), polysync_conn_id=f"team{number}")
        ((event,),) = all_events([wait], gate)
        assert event["status"] == "Succeeded"
        del wait
    wait_until_no_thread_is_left()
    gc.collect()

    assert count_rate_limiters() == before
    assert not rate_limiter._RATE_LIMITERS


def count_rate_limiters() -> int:
    """Return the number of rate limiters in the process."""
    return sum(type(each) is RateLimiter for each in gc.get_objects())
