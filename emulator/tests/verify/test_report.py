"""
What is told: no account number, no name of an identity and no secret, whatever AWS has
written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sagemaker_emulator.verify.models import (
    BELIEFS,
    SUBJECTS,
    Result,
    Verdict,
    VerifyError,
    choose,
)
from sagemaker_emulator.verify.report import as_json, count, has_failed, mask, summary

SECRET = "wJalrXUtnFEMI/K7MDENG"
TEXT = (
    "User: arn:aws:sts::210987654321:assumed-role/Team-Airflow/me@example.com is not authorized to perform: "
    "sagemaker:CreatePipeline on resource: arn:aws:sagemaker:eu-central-1:210987654321:pipeline/polysync-verify-x "
    f"with arn:aws:iam::210987654321:role/teams/a/Pipelines, key AKIAIOSFODNN7EXAMPLE and {SECRET}"
)
AT = datetime(2026, 11, 27, 8, 0, 0, 5, tzinfo=UTC)


def result(verdict: Verdict, seen: str = "seen", detail: str = "") -> Result:
    """Return a result of the first belief."""
    return Result(BELIEFS[0], verdict, seen, detail, 1.23)


def test_nothing_secret_is_told() -> None:
    """
    Neither the table nor the report has what identifies the account or who has run the
    checks.
    """
    found = [result(Verdict.ERROR, TEXT, TEXT), result(Verdict.DIFFERS, TEXT, TEXT)]
    about = {
        "region": "eu-central-1",
        "sign_in": "assume_role arn:aws:iam::210987654321:role/Team-Airflow",
    }

    for text in (
        json.dumps(as_json(found, about, AT, [SECRET], is_complete=True)),
        summary(found, [SECRET], is_verbose=True),
    ):
        assert not re.search(
            "210987654321|Team|example.com|teams/a|Pipelines|AKIA", text
        )
        assert SECRET not in text
        assert (
            "arn:aws:sagemaker:eu-central-1:000000000000:pipeline/polysync-verify-x"
            in text
        )
        assert "arn:aws:sts::000000000000:assumed-role/***" in text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "https://sqs.eu-central-1.amazonaws.com/210987654321/q",
            "https://sqs.eu-central-1.amazonaws.com/000000000000/q",
        ),
        ("execution-1700000000000", "execution-1700000000000"),
        ("/execution/ab1cdefghijk", "/execution/ab1cdefghijk"),
        ("/home/user/reports/report.json", "/home/user/reports/report.json"),
        (
            "give arn:aws:iam::<12-digit account>:role/<name>",
            "give arn:aws:iam::<12-digit account>:role/<name>",
        ),
        ("role of the pipelines", "role of the pipelines"),
    ],
)
def test_mask(text: str, masked: str) -> None:
    """
    Account numbers are replaced wherever they are; other numbers and words are kept.
    """
    assert mask(text) == masked


def test_report() -> None:
    """
    The report says what ran, and of each check what was expected and seen, and what
    depends on it.
    """
    found = [result(Verdict.AS_BELIEVED), result(Verdict.NOT_CHECKED, "no permission")]

    report = as_json(found, {"region": "eu-central-1"}, AT, [], is_complete=True)

    first = report["checks"][0]
    assert (report["version"], report["complete"]) == (1, True)
    assert (report["at"], report["region"]) == (
        "2026-11-27T08:00:00+00:00",
        "eu-central-1",
    )
    assert report["verdicts"] == {
        "as believed": 1,
        "differs": 0,
        "not checked": 1,
        "error": 0,
    }
    assert (first["id"], first["expected"]) == (BELIEFS[0].id, BELIEFS[0].expected)
    assert (first["verdict"], first["seconds"]) == ("as believed", 1.2)
    assert first["source"] == BELIEFS[0].source
    assert first["relied_on_by"] == list(BELIEFS[0].relied_on_by)


@pytest.mark.parametrize("verdict", Verdict)
def test_what_counts_as_a_failure(verdict: Verdict) -> None:
    """What was not checked is none."""
    found = [result(Verdict.AS_BELIEVED), result(verdict)]

    assert has_failed(found) is (verdict in (Verdict.DIFFERS, Verdict.ERROR))
    assert sum(count(found).values()) == 2


def test_each_belief_is_there_once() -> None:
    """An id names one belief, which is a sentence, and names what depends on it."""
    ids = Counter(belief.id for belief in BELIEFS)

    assert [name for name, count in ids.items() if count > 1] == []
    assert list(dict.fromkeys(belief.subject for belief in BELIEFS)) == list(SUBJECTS)
    assert [
        belief.id
        for belief in BELIEFS
        if not belief.sentence.endswith(".") or not belief.relied_on_by
    ] == []


def test_unconfirmed_belief_says_what_follows() -> None:
    """Without a source, no money may depend on it, and what follows must be known."""
    for if_false, money in (("", False), ("Nothing.", True)):
        with pytest.raises(ValueError, match="is unconfirmed"):
            replace(BELIEFS[0], source="", if_false=if_false, money=money)


@pytest.mark.parametrize(
    ("only", "ids"),
    [
        (["unconfirmed"], [belief.id for belief in BELIEFS if not belief.source]),
        (["permission"], ["permission.policy"]),
        (["link", "stop.text"], ["stop.text", "link.execution"]),
        ([], [belief.id for belief in BELIEFS]),
    ],
)
def test_choose(only: list[str], ids: list[str]) -> None:
    """Subjects and ids can be chosen; the order is that of the beliefs."""
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
    """A name that is none is refused, with the one that it probably means."""
    with pytest.raises(VerifyError) as error:
        choose([name])

    assert str(error.value).startswith(f"--only {name!r} is no check; {cure}")


def test_summary() -> None:
    """
    It counts by subject, and has what differs and why others were not checked; a line
    for each only on demand.
    """
    reason, belief = "role/Team is missing", BELIEFS[1]
    found = [
        result(Verdict.AS_BELIEVED, "many of any"),
        Result(belief, Verdict.DIFFERS, "user/me", "a detail"),
        *(Result(each, Verdict.NOT_CHECKED, reason) for each in BELIEFS[2:4]),
    ]

    lines = summary(found, ["any"]).splitlines()

    assert lines[0].split(maxsplit=1) == [
        "start",
        "1 as believed, 1 differs, 2 not checked",
    ]
    assert lines[2].split() == [belief.id, "differs", "user/***"]
    assert lines[3:7] == [
        f"    {text}"
        for text in (
            belief.sentence,
            f"Source: {belief.source}",
            f"Expected: {belief.expected}",
            "a detail",
        )
    ]
    assert lines[-2:] == [
        "not checked: role/*** is missing",
        f"    {BELIEFS[2].id}, {BELIEFS[3].id}",
    ]
    first, *others = summary(found, ["any"], is_verbose=True).splitlines()
    # An invented key that is a word is none.
    assert first.split(maxsplit=1) == [BELIEFS[0].id, "as believed  many of any"]
    assert others[3:] == lines


def test_own_words_are_not_masked() -> None:
    """
    Only what was seen comes from AWS: beliefs, and the names of pages, stay as they
    are.
    """
    own = replace(
        BELIEFS[0],
        sentence="The policy/name is 123456789012.",
        relied_on_by=["user/page.md"],
    )
    differing = Result(own, Verdict.DIFFERS, "user/me 123456789012")

    told = summary([differing])

    assert "The policy/name is 123456789012." in told
    assert "rely on: user/page.md" in told
    assert "user/*** 000000000000" in told
