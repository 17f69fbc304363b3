"""Every way to sign in, for real on loopback: a whole run in both modes, and no secret in sight anywhere."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.cluster import Cluster
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.imds import InstanceMetadata
from tests.auth.endpoints.supply import made_up
from tests.auth.sign_in import ways
from tests.auth.sign_in.conftest import JWT, Account
from tests.auth.sign_in.ways import WAYS, Stage, opened
from tests.tasks import EmulatedTime, run_task

Way = Callable[[Stage], None]
STATIC_KEY = ("access_key",)


@pytest.fixture
def stage(
    account: Account,
    entra: Entra,
    cluster: Cluster,
    pki: Pki,
    environ: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """Where a way is set up, its endpoints open until the test's end."""
    with opened() as stack:
        yield Stage(account, entra, cluster, pki, environ, tmp_path, monkeypatch, stack)


def secrets_of(emulator: EmulatorServer, stage: Stage) -> set[str]:
    """Return every secret that the account, its sessions and the test's connections know."""
    sessions = emulator._sessions._sessions.values()
    held = {text for session in sessions for text in (session.secret_access_key, session.token)}
    connection = os.environ["AIRFLOW_CONN_POLYSYNC_DEFAULT"]
    held |= set(re.findall(r'"(?:password|client_secret|session_token)": "([^"]+)"', connection))
    return held - {""}


@pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_run_signed_in_each_way(
    way: Way,
    deferrable: bool,
    stage: Stage,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All calls are made with the key that STS issued, or the key given; and no secret or token is shown."""
    way(stage)
    # All of it: botocore writes whole requests and answers at this level.
    caplog.set_level(logging.DEBUG)
    emulator.control.clear_calls()
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=deferrable, poll_interval=60
    )

    with capture_logs() as logs:
        run = run_task(operator)

    assert run.error is None, run.error
    assert run.xcoms["state"] == "Success"
    calls = emulator.control.calls()
    keys = {call["access_key_id"] for call in calls if call["service"] == "sagemaker"}
    issued = [call["issued"] for call in calls if call["issued"]]
    if way.__name__ in STATIC_KEY:
        assert (keys, issued) == ({hook_key()}, [])
    else:
        assert keys == {issued[-1]}
    sts = [call["operation"] for call in calls if call["service"] == "sts"]
    assert len(sts) <= 2, "one exchange, however many hooks the two sessions and the triggerer make"

    shown = repr([logs, caplog.text, capfd.readouterr(), run, run.xcoms, run.event, run.trigger, calls])
    shown += repr([vars(operator), operator.hook.credentials, sys.argv])
    assert not JWT.search(shown)
    for secret in secrets_of(emulator, stage):
        assert secret not in shown


def hook_key() -> str:
    """Return the access key id that the connection signs in with now."""
    credentials: Any = PolysyncSageMakerHook().get_session().get_credentials()
    return str(credentials.get_frozen_credentials().access_key)


@pytest.mark.parametrize(
    "way",
    [ways.assume_role, ways.identity_file, ways.client_secret],
    ids=lambda way: way.__name__,
)
def test_200_waiting_renew_once_per_expiry(way: Way, stage: Stage, emulator: EmulatorServer) -> None:
    """Credentials of three seconds' life, in real time: one exchange per renewal for 200 who look at once."""
    way(stage)
    emulator.control.set_sign_in(sts={"lifetime": 3})
    hooks = [PolysyncSageMakerHook() for _ in range(200)]
    began = time.monotonic()
    rounds = 0

    with ThreadPoolExecutor(8) as pool:
        waiting = list(pool.map(lambda hook: hook.get_session().get_credentials(), hooks))
        while time.monotonic() - began < 10 or rounds < 5:
            keys = list(
                pool.map(lambda credentials: credentials.get_frozen_credentials().access_key, waiting)
            )
            assert len(keys) == 200
            rounds += 1
            time.sleep(0.2)

    exchanges = [call for call in emulator.control.calls() if call["issued"]]
    lives = (time.monotonic() - began) / (3 * 3 / 4)
    assert 2 <= len(exchanges) <= lives + 2


def key_of(hook: PolysyncSageMakerHook) -> str:
    """Return the key that a hook would sign with now."""
    credentials: Any = hook.get_session().get_credentials()
    return str(credentials.get_frozen_credentials().access_key)


def test_a_wait_outlives_an_outage_of_sts(
    stage: Stage, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """An outage longer than the old credentials' life is waited out until the execution's end."""
    ways.assume_role(stage)
    emulator.control.set_sign_in(sts={"lifetime": 0.5})
    emulator.control.put_scenario({"steps": {"Merge": {"duration": 3600}}})

    def outage() -> None:
        time.sleep(0.6)
        emulator.control.add_fault("http", "AssumeRole", status=503)

    def over() -> None:
        emulator.control.remove_faults()
        emulator.control.set_sign_in(sts={"lifetime": None})
        time.sleep(1.1)

    emulated_time.after(300, outage)
    emulated_time.after(1800, over)

    run = run_task(
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", deferrable=True, poll_interval=60)
    )

    assert run.error is None, run.error
    assert any(call["fault"] == "http" for call in emulator.control.calls("AssumeRole"))


def test_an_instance_whose_credentials_end_soon_is_asked_again_in_time(stage: Stage) -> None:
    """botocore claims 17 minutes and more for them; the host has the next ones five minutes before the end."""
    imds = stage.open.enter_context(InstanceMetadata(made_up(lifetime=600)))
    stage.environ(imds.environment)
    stage.connect(auth_method="instance_profile")
    hook = PolysyncSageMakerHook()
    key_of(hook)

    assert hook.credentials_expire_at is not None
    left = (hook.credentials_expire_at - datetime.now(UTC)).total_seconds()
    assert left < 300


def test_an_edited_connection_is_another_way(stage: Stage, emulator: EmulatorServer) -> None:
    """A rotated key is used by the next hook; who shares credentials shares them by content, not by name."""
    ways.access_key(stage)
    first = hook_key()
    login, password = stage.account.user("another")
    stage.connect(auth_method="access_key", login=login, password=password)

    assert hook_key() == login != first
