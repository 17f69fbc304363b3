"""
Every authentication method: whole task runs, refresh of credentials, and no secret in
any output.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import redact

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.fakes.endpoints.credential_sources import random_credentials
from tests.fakes.endpoints.metadata.imds import InstanceMetadata
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime, run_task
from tests.unit.auth.sign_in import auth_methods
from tests.unit.auth.sign_in.auth_methods import AUTH_METHODS
from tests.unit.auth.sign_in.conftest import (
    JWT,
    SignInContext,
    all_secrets,
    secret_keys,
)

AuthMethod = Callable[[SignInContext], None]
# The methods that do not get their credentials from STS.
STATIC_KEY_METHODS = ("access_key",)


# A task that defers signs in on a worker, too.
@pytest.mark.parametrize(
    "deferrable", [pytest.param(False, id="sync", marks=pytest.mark.nightly), True]
)
@pytest.mark.parametrize(
    "auth_method", AUTH_METHODS, ids=lambda method: method.__name__
)
def test_run_with_each_auth_method(
    auth_method: AuthMethod,
    deferrable: bool,
    context: SignInContext,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """
    A task makes all calls with the issued or given access key, and no output contains a
    secret.
    """
    auth_method(context)
    # At this level botocore logs whole requests and responses.
    caplog.set_level(logging.DEBUG)
    # What the clients of the test's setup have logged.
    caplog.clear()
    emulator.control.clear_calls()
    operator = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        deferrable=deferrable,
        poll_interval=240,
    )

    with capture_logs() as logs:
        run = run_task(operator)

    assert run.error is None, run.error
    assert run.xcoms["state"] == "Success"
    calls = emulator.control.calls()
    keys = {call["access_key_id"] for call in calls if call["service"] == "sagemaker"}
    issued_keys = [call["issued"] for call in calls if call["issued"]]
    if auth_method.__name__ in STATIC_KEY_METHODS:
        assert (keys, issued_keys) == ({current_key()}, [])
    else:
        assert keys == {issued_keys[-1]}
    sts_operations = [call["operation"] for call in calls if call["service"] == "sts"]
    assert len(sts_operations) <= 2, (
        "the hooks of both sessions and of the triggerer share one sign-in"
    )

    # botocore's debug log has the session token of each signed request. Airflow's
    # secrets masker, to which it was registered, is in the way to every task log.
    debug_log = str(redact(caplog.text))
    output = repr(
        [
            logs,
            debug_log,
            capfd.readouterr(),
            run,
            run.xcoms,
            run.event,
            run.trigger,
            calls,
        ]
    )
    hook = PolysyncSageMakerHook()
    output += repr([vars(operator), vars(run.operator), hook.credentials, sys.argv])
    assert not JWT.search(output + caplog.text)
    assert [secret for secret in all_secrets(emulator) - {""} if secret in output] == []
    # Nothing but the masker stands between this log and other handlers, so no key that
    # signs requests is in it.
    assert [key for key in secret_keys(emulator) if key in caplog.text] == []


def current_key(hook: PolysyncSageMakerHook | None = None) -> str:
    """
    Return the access key id that a hook signs requests with now; by default a new hook.
    """
    credentials: Any = (hook or PolysyncSageMakerHook()).get_session().get_credentials()
    return str(credentials.get_frozen_credentials().access_key)


def test_wait_continues_after_sts_outage(
    context: SignInContext, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    A deferred task succeeds although STS is down for longer than the credentials are
    valid.
    """
    auth_methods.assume_role(context)
    emulator.control.set_sign_in(sts={"lifetime": 600, "clock": "emulated"})
    emulator.control.put_scenario({"steps": {"Merge": {"duration": 3600}}})
    emulated_time.after(
        300, lambda: emulator.control.add_fault("http", "AssumeRole", status=503)
    )
    emulated_time.after(1800, emulator.control.remove_faults)

    run = run_task(
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="fanout", deferrable=True, poll_interval=60
        )
    )

    assert run.error is None, run.error
    assert any(call["fault"] == "http" for call in emulator.control.calls("AssumeRole"))


def test_expiring_ec2_credentials_are_refreshed_in_time(context: SignInContext) -> None:
    """The hook refreshes EC2 credentials within five minutes if they expire soon."""
    # EC2 provides the next credentials five minutes before the expiry, but botocore
    # reports an expiry time at least 17 minutes in the future.
    imds = context.stack.enter_context(
        InstanceMetadata(random_credentials(lifetime=600))
    )
    context.environ(imds.environment)
    context.connect(auth_method="instance_profile")
    hook = PolysyncSageMakerHook()
    current_key(hook)

    assert hook.credentials_expire_at is not None
    remaining = (hook.credentials_expire_at - datetime.now(UTC)).total_seconds()
    assert remaining < 300
