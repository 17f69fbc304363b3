"""
Which settings of ``[core] fernet_key`` are keys, which are none, and which are
mistakes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from polysync_airflow.airflow_compat.signatures import signing_keys, warn_of_no_key
from polysync_airflow.exceptions import PolysyncError

FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
ZEROS = "A" * 43 + "="
ONE = "A" * 42 + "E="


@pytest.fixture(autouse=True)
def _new_process() -> Iterator[None]:
    warn_of_no_key.cache_clear()
    yield
    warn_of_no_key.cache_clear()


@pytest.mark.parametrize(
    ("setting", "keys"),
    [
        (ZEROS, [bytes(32)]),
        (f" {ONE} , {ZEROS}", [bytes(31) + b"\1", bytes(32)]),
    ],
    ids=["one", "after a rotation"],
)
def test_keys_are_in_the_order_of_the_setting(
    setting: str, keys: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are in the order of the setting, so the first one signs."""
    monkeypatch.setenv(FERNET_KEY, setting)

    assert signing_keys() == keys


@pytest.mark.parametrize("setting", [None, "", " ", "{FERNET_KEY}"])
def test_setting_without_a_key_is_one_warning(
    setting: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a key there is one warning in each process, which names the option."""
    if setting is None:
        monkeypatch.delenv(FERNET_KEY)
    else:
        monkeypatch.setenv(FERNET_KEY, setting)

    assert [signing_keys(), signing_keys()] == [[], []]

    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "Set [core] fernet_key" in warning.message


@pytest.mark.parametrize(
    "setting",
    [
        "passphrase",
        "A",
        "ä" * 43,
        f"{ZEROS},",
        f"{ZEROS},short",
        "A" * 40,
        "{FERNET_KEY},",
    ],
)
def test_unusable_key_is_an_error_that_does_not_show_it(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A key that Airflow could not use either is an error that names the option, and does
    not show the key.
    """
    monkeypatch.setenv(FERNET_KEY, setting)

    with pytest.raises(
        PolysyncError, match=r"^\[core\] fernet_key is set, but cannot be used"
    ) as raised:
        signing_keys()

    assert setting not in str(raised.value)
