"""The page about what is verified has all beliefs, and what relies on them exists."""

from __future__ import annotations

import re
from typing import Final

import pytest
from botocore.session import Session

from polysync_airflow.aws.responses import MAX_TOKEN_LENGTH
from polysync_airflow.execution.models import DISPLAY_NAME_MAX
from polysync_airflow.execution.search import SETTLE_SECONDS
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS
from sagemaker_emulator.verify.models import BELIEFS
from tests.documentation import verified

# The hosts of AWS's documentation, of its SDK, and of its schema of definitions.
SOURCE: Final = re.compile(
    r"https://(docs\.aws\.amazon\.com/[\w./#-]+\.html|sagemaker\.readthedocs\.io/[\w./#-]+"
    r"|aws-sagemaker-mlops\.github\.io/[\w-]+/"
    r"|github\.com/[\w-]+/[\w-]+/(blob/[\w./-]+|(issues|pull)/\d+))"
)
REFERENCE: Final = re.compile(r"/sagemaker/latest/APIReference/API_(\w+)\.html")


def test_what_relies_on_a_belief_exists() -> None:
    """Each belief names modules and pages of this repository."""
    missing = [
        (belief.id, path)
        for belief in BELIEFS
        for path in belief.relied_on_by
        if not (verified.ROOT / path).is_file()
    ]

    assert missing == []


def test_few_beliefs_are_unconfirmed() -> None:
    """All but a few have a source."""
    unconfirmed = [belief.id for belief in BELIEFS if not belief.source]

    assert len(unconfirmed) <= 25
    assert f"{len(unconfirmed)} are unconfirmed" in verified.PAGE.read_text()


def test_sources_are_addresses() -> None:
    """
    Each source is a page of AWS or of its SDK, or a file or an issue on GitHub. A page
    of SageMaker's reference is that of an operation or shape which botocore knows.
    """
    model = Session().get_service_model("sagemaker")
    known = {*model.operation_names, *model.shape_names}
    sources = {belief.source for belief in BELIEFS if belief.source}

    assert [each for each in sources if not SOURCE.fullmatch(each)] == []
    pages = {page[1] for each in sources if (page := REFERENCE.search(each))}
    assert pages
    assert pages - known == set()


def test_what_follows_from_a_wrong_belief_is_tried() -> None:
    """What the page says of one that is not true has a test, by its name."""
    tests = (verified.ROOT / "tests" / "unit" / "operators").rglob("test_*.py")
    text = "".join(path.read_text() for path in tests)

    tried = [belief.id for belief in BELIEFS if belief.if_false]

    assert tried
    assert [name for name in tried if name not in text] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("start.display-name", f" {DISPLAY_NAME_MAX} "),
        ("list.describe-lag", f"within {FIRST_POLL_DELAY_SECONDS:.0f} s"),
        ("list.list-lag", f"within {SETTLE_SECONDS:.0f} s"),
        ("list.status-lag", f"within {SETTLE_SECONDS:.0f} s"),
        ("list.token-length", f" {MAX_TOKEN_LENGTH:,} "),
    ],
)
def test_limits_are_those_of_the_provider(name: str, text: str) -> None:
    """
    The checks, which do not know the provider, look for the limits that it relies on.
    """
    (belief,) = [each for each in BELIEFS if each.id == name]

    assert text in f"{belief.sentence} {belief.expected}"


def test_page() -> None:
    """
    The page has the tables; after a change, ``python -m tests.documentation.verified``
    writes them.
    """
    text = verified.PAGE.read_text()

    assert text == verified.with_tables(text, verified.states(text))
    assert set(verified.states(text)) == {belief.id for belief in BELIEFS}


def test_report_updates_the_page() -> None:
    """
    A report of AWS changes the state of what it has checked, and of nothing else; one
    of an emulator changes none.
    """
    checks = [
        {
            "id": "start.same-token",
            "verdict": "as believed",
            "seen": "the same execution",
        },
        {"id": "stop.text", "verdict": "differs", "seen": "has other | words"},
        {"id": "job.log", "verdict": "not checked", "seen": "--with-job is not given"},
    ]
    about = {
        "endpoint": "AWS",
        "region": "eu-central-1",
        "at": "2026-11-27T08:00:00+00:00",
    }
    before = {belief.id: verified.BELIEVED for belief in BELIEFS}

    after = verified.updated(before, {**about, "checks": checks})

    assert {
        name: state for name, state in after.items() if state != verified.BELIEVED
    } == {
        "start.same-token": "verified on 2026-11-27 in eu-central-1",
        "stop.text": "differs on 2026-11-27 in eu-central-1: has other words",
    }
    text = verified.with_tables(verified.PAGE.read_text(), after)
    assert verified.states(text) == after
    with pytest.raises(SystemExit, match="not a report about AWS"):
        verified.updated(
            before, {**about, "endpoint": "not one of AWS", "checks": checks}
        )
