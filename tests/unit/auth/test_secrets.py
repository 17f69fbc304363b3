"""
Secrets of a connection do not appear in logs, XComs, errors, reprs, links or stored
triggers.
"""

from __future__ import annotations

import logging

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime, run_task

SECRETS = ("very-secret-key", "very-secret-token")


@pytest.mark.parametrize("deferrable", [False, True])
def test_no_secret_leaves_the_connection_of_a_run_that_fails(
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Deferred or not, the run shows no secret in its logs, XComs, error and trigger.
    """
    # botocore logs what it signs and sends.
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "botocore")
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLYSYNC_DEFAULT",
        connection(
            password=SECRETS[0],
            session_token=SECRETS[1],
            endpoint_url=emulator.endpoint_url,
        ),
    )
    emulator.control.add_fault(
        "error",
        "DescribePipelineExecution",
        code="AccessDeniedException",
        message="no",
        skip=2,
    )
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=deferrable, poll_interval=60
    )

    with capture_logs() as logs:
        run = run_task(operator)

    assert run.error is not None
    hook = PolysyncSageMakerHook()
    seen = [
        logs,
        caplog.text,
        run,
        run.xcoms,
        run.trigger,
        run.event,
        str(run.error),
        repr(run.error),
    ]
    seen += [
        hook.credentials,
        str(hook.credentials),
        vars(operator),
        emulator.control.calls(),
    ]
    for secret in SECRETS:
        assert secret not in repr(seen)
