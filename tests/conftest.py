"""
The environment of all tests: a private AIRFLOW_HOME, an emulator, and emulated time.
"""

from __future__ import annotations

import atexit
import base64
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

# A collection of all objects takes 0.2 s, and was a tenth of the CPU of all tests.
gc.set_threshold(50_000, 10, 10)
# Set before the first import of Airflow, which reads these variables only once.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="polysync-tests-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(
    Path(__file__).parents[1] / "example_dags"
)
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# `dag.test()` of Airflow 3.2.2 checks tokens, which later versions do not.
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = (
    "secret-of-the-tests-for-tokens-of-the-api"
)
os.environ["AIRFLOW__CORE__FERNET_KEY"] = base64.urlsafe_b64encode(
    os.urandom(32)
).decode()
# Tests must not use credentials of this host, and must not wait for retries of
# botocore.
os.environ["AWS_MAX_ATTEMPTS"] = "1"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for _name in (
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
):
    os.environ.pop(_name, None)

import airflow  # noqa: E402
import pytest  # noqa: E402

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES  # noqa: E402
from polysync_airflow.execution import clock  # noqa: E402
from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer, Limits, VirtualClock  # noqa: E402
from tests.fakes import airflow_service, quick_clients, quick_templates  # noqa: E402
from tests.fakes.quick_emulator import connections_without_sockets  # noqa: E402
from tests.fakes.simulated_airflow import AIRFLOW, SimulatedAirflow  # noqa: E402
from tests.fakes.stopped_clock import StoppedClock  # noqa: E402
from tests.tasks import EmulatedTime  # noqa: E402

# What these tests are about does not exist in all versions of Airflow.
collect_ignore = [
    *(
        []
        if CAPABILITIES.retry_policy
        else [
            "unit/operators/test_retry_policy.py",
            "unit/test_retrying.py",
            "compatibility",
            "unit/triggers/test_connection_changes.py",
        ]
    ),
    # The models of Airflow's task runner differ between the versions.
    *(
        []
        if airflow.__version__.startswith("3.3.")
        else ["unit/operators/test_airflow_requests.py"]
    ),
]
# The example pipelines, with two shards in place of five: each is a call more at the
# end of an execution.
# Tests share an emulator, and leave their executions running.
MANY = Limits(max_executions=10_000)
DEFINITIONS = Path(os.environ["AIRFLOW_HOME"], "pipelines")
shutil.copytree(EXAMPLE_DEFINITIONS, DEFINITIONS)
_fanout = json.loads((DEFINITIONS / "fanout.json").read_text())
_fanout["Steps"] = [
    step for step in _fanout["Steps"] if step["Name"] in ("Shard0", "Shard3", "Merge")
]
_fanout["Steps"][-1]["DependsOn"] = ["Shard0", "Shard3"]
(DEFINITIONS / "fanout.json").write_text(json.dumps(_fanout))
# Of an execution of ``fanout``.
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
# For what happens during the wait, or at its end.
IN_BOTH_MODES = pytest.mark.parametrize(
    "deferrable", [False, True], ids=["sync", "deferred"], indirect=True
)
NEEDS_TABS = pytest.mark.skipif(
    not CAPABILITIES.react_apps, reason="this Airflow has no tabs of plugins"
)
# A whole Airflow takes up to two minutes until it runs, which is charged to the first
# test with it.
SYSTEM_TIMEOUT_SECONDS = 900


def pytest_collection_finish() -> None:
    """Let Python's garbage collector leave out what has been imported."""
    leave_out_of_collections()


def pytest_sessionfinish() -> None:
    """
    Let pytest find nothing to collect: it looks for garbage five times at the end,
    which takes a second.
    """
    gc.freeze()


def leave_out_of_collections() -> None:
    """Let Python's garbage collector no longer look at the objects that exist now."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Give the tests with a whole Airflow, or its database alone, more time than
    ``timeout`` in pyproject.toml.
    """
    for item in items:
        is_slow = item.get_closest_marker("system") or item.get_closest_marker("matrix")
        if is_slow and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SYSTEM_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """
    Create Airflow's database in the AIRFLOW_HOME of the tests; the processes of
    pytest-xdist copy the first one, and mutmut's sessions in one process the first of
    the process.
    """
    made = Path(os.environ["AIRFLOW_HOME"], "airflow.db")
    empty = made.with_name("empty.db")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    template = shared / made.name
    settings = sys.modules.get("airflow.settings")
    if settings and settings.engine:
        # A connection from before would go on reading an empty database.
        settings.engine.dispose()
    for path in made.parent.glob("airflow.db*"):
        path.unlink()
    if not empty.exists():
        with (shared / "airflow.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not template.exists():
                migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
                subprocess.run(migrate, check=True, capture_output=True)
                shutil.copyfile(made, template)
            shutil.copyfile(template, empty)
    shutil.copyfile(empty, made)


@pytest.fixture(scope="session")
def _emulator() -> Iterator[EmulatorServer]:
    with (
        EmulatorServer(
            clock=VirtualClock(), definitions=DEFINITIONS, limits=MANY
        ) as server,
        connections_without_sockets(server),
    ):
        leave_out_of_collections()
        yield server


@pytest.fixture(scope="session", autouse=True)
def _quick_creation() -> Iterator[None]:
    """
    Make the creation of sessions, clients and templates fast, which most tests do
    several times.
    """
    with pytest.MonkeyPatch.context() as patch:
        quick_clients.install(patch)
        quick_templates.install(patch)
        yield


@pytest.fixture(autouse=True)
def simulated_airflow(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SimulatedAirflow]:
    """
    Return what knows the task instances of a test. Airflow's client asks it, unless
    there is a database.
    """
    AIRFLOW.clear()
    if "airflow_database" not in request.fixturenames:
        airflow_service.install(monkeypatch, AIRFLOW)
    with airflow_service.forgotten_secrets():
        yield AIRFLOW


@pytest.fixture
def emulator(
    _emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> EmulatorServer:
    """
    Return an emulator with the example pipelines; the connection ``polysync_default``
    leads to it.
    """
    _emulator.control.reset()
    use_connection(monkeypatch, endpoint_url=_emulator.endpoint_url)
    return _emulator


@pytest.fixture
def deferrable(request: pytest.FixtureRequest) -> bool:
    """
    Whether the task waits in the triggerer: with ``IN_BOTH_MODES``. Other tests wait on
    the worker, which is quicker.

    What a try does before the wait and after it is decided without the mode.
    """
    return bool(getattr(request, "param", False))


@pytest.fixture
def stopped_clock() -> Iterator[StoppedClock]:
    """Let the clock of the provider stand still."""
    stopped = StoppedClock()
    with clock.replaced_by(stopped):
        yield stopped


@pytest.fixture
def emulated_time(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EmulatedTime]:
    """
    Let each wait of the provider advance the emulator's clock, so that hours take
    milliseconds.
    """
    from polysync_airflow.aws import rate_limiter

    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", WeakValueDictionary())
    emulated = EmulatedTime(emulator)
    with clock.replaced_by(emulated):
        yield emulated


def connection(
    *,
    conn_type: str = "polysync_sagemaker",
    login: str = "AKIAIOSFODNN7EXAMPLE",
    password: str = "emulated-secret-key",
    **extra: object,
) -> str:
    """
    Return a connection as JSON, as Airflow reads it from an environment variable.
    """
    extra = {"region_name": "us-east-1", **extra}
    if conn_type == "polysync_sagemaker":
        extra = {"auth_method": "access_key", **extra}
    return json.dumps(
        {
            "conn_type": conn_type,
            "login": login,
            "password": password,
            "extra": extra,
        }
    )


def use_connection(
    monkeypatch: pytest.MonkeyPatch, conn_id: str = "polysync_default", **fields: Any
) -> None:
    """
    Let an environment variable have a connection.

    :param fields: those of ``connection``.
    """
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection(**fields))
