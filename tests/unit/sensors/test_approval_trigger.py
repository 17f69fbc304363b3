"""The trigger that waits for the approval of a model package."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers import PolysyncModelApprovalTrigger, poller
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, fire
from tests.unit.triggers.test_poller import all_events, gate  # noqa: F401 # fixture

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"


def arguments(time: EmulatedTime, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a stored trigger."""
    return {
        "model_package_arn": ARN,
        "polysync_conn_id": "polysync_default",
        "region_name": "us-east-1",
        "poll_interval": 60.0,
        "since": time.time(),
        "deadline": time.time() + 3600,
        **changes,
    }


PATH = "polysync_airflow.triggers.PolysyncModelApprovalTrigger"


def test_stored_form_is_public(emulated_time: EmulatedTime) -> None:
    """
    The class path is that of the package, and the arguments come back as they are.
    """
    stored = arguments(emulated_time)

    assert PolysyncModelApprovalTrigger(**stored).serialize() == (PATH, stored)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_package_arn", "arn:aws:iam::1:role/x"),
        ("region_name", "us-east-1.evil.example/"),
        ("poll_interval", 0),
        ("poll_interval", float("nan")),
        ("deadline", "soon"),
        ("polysync_conn_id", ""),
    ],
)
def test_edited_arguments_are_refused(
    name: str, value: Any, emulated_time: EmulatedTime, emulator: EmulatorServer
) -> None:
    """
    Others can edit the row in Airflow's database. No request is made with what is not
    valid.
    """
    with pytest.raises(ParametersError, match=name):
        asyncio.run(fire(PATH, arguments(emulated_time, **{name: value})))

    assert emulator.control.calls() == []


def test_late_trigger_looks_once_more(
    emulated_time: EmulatedTime, emulator: EmulatorServer
) -> None:
    """
    A model that was approved while no triggerer ran counts as approved, after the
    deadline, too.
    """
    client: Any = PolysyncSageMakerHook().conn
    client.create_model_package_group(ModelPackageGroupName="Churn")
    client.create_model_package(
        ModelPackageGroupName="Churn", ModelApprovalStatus="Approved"
    )
    late = arguments(
        emulated_time,
        since=emulated_time.time() - 7200,
        deadline=emulated_time.time() - 3600,
    )

    event = asyncio.run(fire(PATH, late))

    assert (event["outcome"], event["model_package_arn"]) == ("approved", ARN)
    assert emulated_time.slept[:1] == [5.0]


def test_triggers_share_calls_and_leave_nothing(
    emulated_time: EmulatedTime,
    emulator: EmulatorServer,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    Any number of waits with a connection and region has one poller, and those for the
    same version one call.
    """
    client: Any = PolysyncSageMakerHook().conn
    client.create_model_package_group(ModelPackageGroupName="Churn")
    for _ in range(10):
        client.create_model_package(
            ModelPackageGroupName="Churn", ModelApprovalStatus="Rejected"
        )
    arns = 2 * [ARN.removesuffix("1") + str(number) for number in range(1, 11)]
    stored = [arguments(emulated_time, model_package_arn=arn) for arn in arns]

    events = all_events([PolysyncModelApprovalTrigger(**each) for each in stored], gate)

    assert {(event["outcome"], event["model_package_arn"]) for (event,) in events} == {
        ("rejected", arn) for arn in arns
    }
    assert len(emulator.control.calls("DescribeModelPackage")) == 10
    assert poller._POLLERS == {}


def test_deleted_connection_ends_the_wait(
    emulated_time: EmulatedTime,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wait does not go on for days with a connection that no longer exists."""
    client: Any = PolysyncSageMakerHook().conn
    client.create_model_package_group(ModelPackageGroupName="Churn")
    client.create_model_package(
        ModelPackageGroupName="Churn", ModelApprovalStatus="PendingManualApproval"
    )
    emulated_time.after(
        130, lambda: monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    )

    event = asyncio.run(
        fire(PATH, arguments(emulated_time, deadline=emulated_time.time() + 1800))
    )

    assert event["outcome"] == "refused"
    assert "the connection was deleted or renamed" in event["message"]
