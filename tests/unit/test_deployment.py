"""The identity of an Airflow deployment: who makes it, and what changes it."""

from __future__ import annotations

import re
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import Variable

from polysync_airflow import deployment
from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.deployment import (
    DEPLOYMENT_KEY,
    SETTLE_SECONDS,
    doubt_about,
    ensure_deployment,
    find_deployment,
    stored_identity,
)
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from tests.tasks import EmulatedTime

pytestmark = pytest.mark.usefixtures("variables")

SECTION = "API" if CAPABILITIES.task_sdk else "WEBSERVER"
BASE_URL = f"AIRFLOW__{SECTION}__BASE_URL"
NAME = "AIRFLOW__POLYSYNC_SAGEMAKER__DEPLOYMENT"
PROD = "https://prod.example.com"


@pytest.fixture
def variables(
    monkeypatch: pytest.MonkeyPatch, emulated_time: EmulatedTime
) -> dict[str, str]:
    """The Variables of the deployment."""
    values: dict[str, str] = {}

    def store(key: str, value: str, *, description: str) -> None:
        assert description
        values[key] = value

    monkeypatch.setattr(task_instances, "get_variable", values.get)
    monkeypatch.setattr(Variable, "set", store)
    return values


def test_first_task_makes_the_identity(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is random, and the Variable also has the address of the API server."""
    monkeypatch.setenv(BASE_URL, f"{PROD}/")

    made = ensure_deployment(None, None)

    assert re.fullmatch(rf"{made} [0-9]+ {PROD}", variables[DEPLOYMENT_KEY])
    assert deployment.read_deployment(None) == made
    assert ensure_deployment(None, None) == made
    variables.clear()
    assert ensure_deployment(None, None) != made


STORED = "abc 1"


def test_first_worker_with_an_address_adds_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity stays; a copy of the database that is made later has another one."""
    variables[DEPLOYMENT_KEY] = STORED
    assert ensure_deployment(None, None) == "abc"
    assert variables[DEPLOYMENT_KEY] == STORED
    monkeypatch.setenv(BASE_URL, PROD)

    assert ensure_deployment(None, "team") == "abc"

    assert variables == {DEPLOYMENT_KEY: f"{STORED} {PROD}"}
    assert ensure_deployment(None, None) == "abc"
    monkeypatch.setenv(BASE_URL, "https://staging.example.com")
    assert ensure_deployment(None, None) != "abc"
    assert variables == {DEPLOYMENT_KEY: f"{STORED} {PROD}"}


def test_address_is_added_when_the_identity_has_settled(
    variables: dict[str, str],
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slower first task may replace it until then."""
    monkeypatch.setenv(BASE_URL, PROD)
    now = clock.time()
    variables[DEPLOYMENT_KEY] = f"first {now:.0f}"
    second = f"second {now + 2:.0f}"
    emulated_time.after(2, lambda: variables.update({DEPLOYMENT_KEY: second}))

    assert ensure_deployment(None, None) == "second"

    assert variables[DEPLOYMENT_KEY] == f"{second} {PROD}"


def test_address_that_is_not_stored_keeps_no_task_from_its_work(
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Airflow does not respond, or refuses the write."""
    variables[DEPLOYMENT_KEY] = STORED
    monkeypatch.setenv(BASE_URL, PROD)
    monkeypatch.setattr(Variable, "set", Mock(side_effect=ConnectionError("down")))

    assert ensure_deployment(None, None) == "abc"

    assert "The Variable polysync_deployment keeps no address: down" in caplog.text


@pytest.mark.parametrize(
    ("url", "own", "name", "doubt"),
    [
        (None, None, None, "a deployment into which its Variables are imported"),
        (None, PROD, None, f"The next task that starts an execution adds {PROD}"),
        (PROD, PROD, None, None),
        (PROD, None, None, f"is that of the deployment at {PROD}, and no [api]"),
        (PROD, "https://staging.example.com", None, "deployment = abc."),
        (None, None, "prod", None),
    ],
)
def test_what_may_be_taken_for_another_deployment(
    url: str | None,
    own: str | None,
    name: str | None,
    doubt: str | None,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """``polysync check`` says it, and the log of a host without an address."""
    value = " ".join(filter(None, (STORED, url)))
    variables[DEPLOYMENT_KEY] = value
    monkeypatch.setenv(BASE_URL, own or "http://localhost:8080")
    monkeypatch.setenv(NAME, name or "")
    stored = stored_identity(None, variables.get)
    assert stored is not None

    found = doubt_about(stored)

    assert (found is None) is (doubt is None)
    assert (doubt or "") in (found or "")
    ensure_deployment(None, None)
    is_host_without_address = url is not None and own is None
    assert (str(found) in caplog.text) is is_host_without_address


def test_tasks_that_come_first_at_the_same_time_get_the_same_identity(
    variables: dict[str, str], emulated_time: EmulatedTime
) -> None:
    """A slower one may replace the value, also while others wait for it to settle."""
    now = clock.time()
    theirs = "0123456789abcdef"

    def replace_value() -> None:
        variables[DEPLOYMENT_KEY] = f"{theirs} {now + 3:.0f}"

    emulated_time.after(3, replace_value)

    assert ensure_deployment(None, None) == theirs
    assert clock.time() >= now + 2 + SETTLE_SECONDS


@pytest.mark.parametrize("is_stored", [True, False])
def test_refused_write_counts_if_there_is_no_value(
    is_stored: bool, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 2 refuses the slower one of two tasks that come first."""

    def refuse(key: str, _: str, **__: object) -> None:
        if is_stored:
            variables[key] = f"theirs {clock.time():.0f}"
        raise RuntimeError("duplicate key")

    monkeypatch.setattr(Variable, "set", refuse)

    if is_stored:
        assert ensure_deployment(None, None) == "theirs"
    else:
        with pytest.raises(RuntimeError, match="duplicate key"):
            ensure_deployment(None, None)


@pytest.mark.parametrize("ahead", [10, 3600])
def test_clock_of_another_host_delays_no_start_for_long(
    ahead: float, variables: dict[str, str], emulated_time: EmulatedTime
) -> None:
    """It may be ahead of that of this host, by whatever somebody has set it to."""
    now = clock.time()
    variables[DEPLOYMENT_KEY] = f"first {now + ahead:.0f}"

    assert ensure_deployment(None, None) == "first"
    assert clock.time() <= now + 10


def test_deleted_variable_gets_the_identity_of_the_record() -> None:
    """Otherwise the tasks that run would not find their executions."""
    assert ensure_deployment("0123456789abcdef", None) == "0123456789abcdef"


def test_each_team_has_an_identity_of_its_own(variables: dict[str, str]) -> None:
    """A write with the key of all would change that of the others."""
    ours = ensure_deployment(None, "a")

    assert ensure_deployment(None, "b") != ours
    assert deployment.read_deployment("a") == ours
    assert variables.keys() == {f"{DEPLOYMENT_KEY}.a", f"{DEPLOYMENT_KEY}.b"}


def test_identity_from_before_there_were_teams_is_kept(
    variables: dict[str, str],
) -> None:
    """All teams see a Variable without a team."""
    made = ensure_deployment(None, None)

    assert deployment.read_deployment("a") == made
    assert variables.keys() == {DEPLOYMENT_KEY}


def test_variable_that_is_not_stored_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names it."""
    monkeypatch.setattr(Variable, "set", lambda *_, **__: None)

    with pytest.raises(PolysyncError, match="does not keep the Variable 'polysync_"):
        ensure_deployment(None, None)


def identity_of(stored: str | None) -> str | None:
    """Return the identity that follows from the value of the Variable."""
    return find_deployment(None, {DEPLOYMENT_KEY: stored}.get)


@pytest.mark.parametrize(
    ("stored", "base_url", "is_same"),
    [
        (f"abc 1767225600 {PROD}", PROD, True),
        (f"abc 1767225600 {PROD}", f"{PROD}/", True),
        # A host where no address is configured, or only that of one's own machine.
        (f"abc 1767225600 {PROD}", "", True),
        (f"abc 1767225600 {PROD}", "http://localhost:8080", True),
        # The first task had none.
        ("abc", PROD, True),
        # A copy of the database.
        (f"abc 1767225600 {PROD}", "https://staging.example.com", False),
    ],
)
def test_another_address_is_another_deployment(
    stored: str, base_url: str, is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an address is configured."""
    monkeypatch.setenv(BASE_URL, base_url)

    identity = identity_of(stored)

    assert identity is not None
    assert (identity == "abc") is is_same
    assert identity == identity_of(stored)


@pytest.mark.parametrize("stored", [None, "", " ", "a\0b", "ü", "x" * 65])
def test_variable_without_an_identity_counts_for_nothing(stored: str | None) -> None:
    """Somebody has deleted or edited it."""
    assert identity_of(stored) is None


def test_name_is_neither_read_nor_stored(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one is configured, no Variable counts."""
    monkeypatch.setenv(NAME, "prod")
    monkeypatch.setattr(task_instances, "get_variable", Mock(side_effect=OSError))

    assert ensure_deployment("abc", "team") == "prod"

    assert variables == {}


def test_invalid_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the option, its value and what is valid."""
    monkeypatch.setenv(NAME, "our prod")

    with pytest.raises(PolysyncError) as caught:
        deployment.read_deployment(None)

    assert str(caught.value) == (
        "[polysync_sagemaker] deployment = 'our prod' is not valid: use 1 to 64"
        " letters, digits, hyphens, underscores and dots, such as prod. Nothing was"
        " started."
    )
