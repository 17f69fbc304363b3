"""
An extra that is no JSON object, and a region that is none: the error names them, for
both types of connections.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.auth.base_hook import LiveConnection
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.fakes.evil_json import FOREIGN, NESTED, UNREADABLE

TYPES = pytest.mark.parametrize("conn_type", ["aws", "polysync_sagemaker"])
MakeHook = Callable[[str, str], PolysyncSageMakerHook]


@pytest.fixture
def make_hook(monkeypatch: pytest.MonkeyPatch) -> MakeHook:
    """
    Returns a function that returns a hook whose connection has an extra.

    As the API server returns it: Airflow does not find one of the environment whose
    extra it cannot read.
    """

    def make(conn_type: str, extra: str) -> PolysyncSageMakerHook:
        found = Connection(conn_id="mine", conn_type=conn_type)
        # Airflow 2 reads what is set by its name, but not what its database returns.
        name = "extra" if CAPABILITIES.task_sdk else "_extra"
        setattr(found, name, extra)
        get = staticmethod(lambda _: found)
        monkeypatch.setattr(PolysyncSageMakerHook, "get_connection", get)
        return PolysyncSageMakerHook("mine")

    return make


CALLS: tuple[Callable[[PolysyncSageMakerHook], Any], ...] = (
    lambda hook: hook.region_name,
    lambda hook: hook.client_region,
    lambda hook: hook.get_caller_identity(),
)


@TYPES
@pytest.mark.parametrize("kind", sorted(UNREADABLE.keys() - {"empty"}))
def test_extra_that_cannot_be_read_is_not_quoted(
    kind: str, conn_type: str, make_hook: MakeHook
) -> None:
    """It names the connection, and what to do, but not what the extra has."""
    for call in CALLS:
        with pytest.raises(CredentialsError) as caught:
            call(make_hook(conn_type, UNREADABLE[kind]))

        text = str(caught.value)
        assert text.startswith("The extra of the connection 'mine' ")
        assert text.endswith(" Correct it under Admin > Connections.")
        assert "person" not in text


@TYPES
@pytest.mark.parametrize("kind", FOREIGN)
def test_extra_without_fields_is_an_error_of_the_connection(
    kind: str, conn_type: str, make_hook: MakeHook
) -> None:
    """What is no object, or has no field of ours, is an error of the connection."""
    with pytest.raises(CredentialsError, match="connection 'mine'"):
        make_hook(conn_type, FOREIGN[kind]).get_caller_identity()


def test_wait_keeps_the_connection_that_it_has(make_hook: MakeHook) -> None:
    """Somebody has pasted another text into the extra while tasks wait."""
    live = LiveConnection("mine", lambda: PolysyncSageMakerHook("mine"))
    make_hook("aws", "{}")
    hook = live.hook
    make_hook("aws", NESTED)

    live.read()

    assert live.hook is hook


REGIONS: list[Any] = [
    "Frankfurt",
    "eu-central-1.example.com/",
    "eu-central-1\n",
    "x@evil.example#-1",
    ["eu-central-1"],
    7,
    True,
]


@TYPES
@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_region_that_is_none_is_refused(
    region: Any, conn_type: str, make_hook: MakeHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It would become a part of the host to which requests are sent. The text is the same
    for both types.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEHOSTOFTHEHO")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-host")
    extra = {"region_name": region, "auth_method": "instance_profile"}

    for call in CALLS:
        with pytest.raises(CredentialsError) as caught:
            call(make_hook(conn_type, json.dumps(extra)))

        assert str(caught.value) == (
            f"The connection 'mine' (type {conn_type}) is not usable:\n- region_name:"
            " not the name of an AWS region, such as eu-central-1; correct it."
        )


def test_region_in_config_kwargs_is_checked_too(make_hook: MakeHook) -> None:
    """An aws connection has settings of botocore, too."""
    extra = {"config_kwargs": {"region_name": "x y"}}

    with pytest.raises(
        CredentialsError, match=r"- config_kwargs\.region_name: not the name of an AWS"
    ):
        _ = make_hook("aws", json.dumps(extra)).client_region


def test_region_of_the_operator_is_checked_too(make_hook: MakeHook) -> None:
    """It counts in place of that of the connection."""
    make_hook("aws", "{}")

    with pytest.raises(CredentialsError, match="region_name: not the name of an AWS"):
        _ = PolysyncSageMakerHook("mine", "us east").client_region


@pytest.mark.parametrize(
    "region", ["us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1", ""]
)
def test_regions_of_all_partitions_are_valid(region: str, make_hook: MakeHook) -> None:
    """An empty one is that of the host."""
    hook = make_hook("aws", json.dumps({"region_name": region}))

    assert (hook.region_name or "") == region
