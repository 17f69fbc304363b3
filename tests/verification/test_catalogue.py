"""The catalogue: each belief is there once, with what depends on it, and the page lists the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.verification.catalogue import BELIEFS, SUBJECTS, choose
from tests.verification import page

ROOT = Path(__file__).parents[2]


def test_each_belief_is_there_once() -> None:
    """An id names one belief, and its first part is a subject that has a title."""
    ids = Counter(belief.id for belief in BELIEFS)

    assert [name for name, count in ids.items() if count > 1] == []
    assert list(dict.fromkeys(belief.subject for belief in BELIEFS)) == list(SUBJECTS)
    assert [belief.id for belief in BELIEFS if not belief.sentence.endswith(".")] == []


def test_what_relies_on_a_belief_exists() -> None:
    """Each belief names the modules and pages that depend on it."""
    missing = [
        (belief.id, path) for belief in BELIEFS for path in belief.relied_on_by if not (ROOT / path).is_file()
    ]

    assert missing == []
    assert [belief.id for belief in BELIEFS if not belief.relied_on_by] == []


def test_page() -> None:
    """The page has the tables of the catalogue; after a change, ``python -m tests.verification.page`` writes them."""
    text = page.PAGE.read_text()

    assert text == page.with_tables(text, page.states(text))
    assert set(page.states(text)) == {belief.id for belief in BELIEFS}


def test_report_updates_the_page() -> None:
    """A report of AWS changes the state of what it has checked, and of nothing else; one of an emulator changes none."""
    checks = [
        {"id": "start.same-token", "verdict": "as believed", "seen": "the same execution"},
        {"id": "stop.text", "verdict": "differs", "seen": "has other | words"},
        {"id": "job.log", "verdict": "not checked", "seen": "--with-job is not given"},
    ]
    report = {
        "endpoint": "AWS",
        "region": "eu-central-1",
        "at": "2026-11-27T08:00:00+00:00",
        "checks": checks,
    }
    before = {belief.id: page.BELIEVED for belief in BELIEFS}

    after = page.updated(before, report)

    assert {name: state for name, state in after.items() if state != page.BELIEVED} == {
        "start.same-token": "verified on 2026-11-27 in eu-central-1",
        "stop.text": "differs on 2026-11-27 in eu-central-1: has other words",
    }
    text = page.with_tables(page.PAGE.read_text(), after)
    assert page.states(text) == after
    with pytest.raises(SystemExit, match="not a report about AWS"):
        page.updated(before, {**report, "endpoint": "not one of AWS"})


@pytest.mark.parametrize(
    ("only", "ids"),
    [
        (["permission"], ["permission.policy"]),
        (["link", "stop.text"], ["stop.text", "link.execution"]),
        ([], [belief.id for belief in BELIEFS]),
    ],
)
def test_choose(only: list[str], ids: list[str]) -> None:
    """Subjects and ids can be chosen; the order is that of the catalogue."""
    assert [belief.id for belief in choose(only)] == ids


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("stop.txt", "did you mean stop.text?"),
        ("starts", "did you mean start?"),
        ("x", "the subjects are start,"),
    ],
)
def test_choose_what_does_not_exist(name: str, cure: str) -> None:
    """A name that is not one of the catalogue is refused, with the one that it probably means."""
    with pytest.raises(ParametersError) as error:
        choose([name])

    assert str(error.value).startswith(f"--only {name!r} is no check; {cure}")
