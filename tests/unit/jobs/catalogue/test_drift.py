"""
The comparison of a catalogue with pipelines: each kind of difference, their order and
their forms.
"""

from __future__ import annotations

from itertools import starmap
from typing import Any

import pytest

from polysync_airflow.execution.pipelines import Job
from polysync_airflow.jobs.catalogue import BrokenJob, Catalogue, CatalogueJob, Scope
from polysync_airflow.jobs.drift import (
    KINDS,
    Drift,
    change_text,
    compare,
    count_drift,
    describe_drift,
    drift_as_json,
)
from tests.unit.jobs.catalogue.builders import DIGEST, entry, job, parameter

OTHER_DIGEST = f"sha256:{'1' * 64}"
CHANGED: Any = {"definition_digest": OTHER_DIGEST}


def compared(before: CatalogueJob, after: Job) -> list[Drift]:
    """Compare a catalogue that has one entry with what has become of its pipeline."""
    return compare(Catalogue([before], []), [after], Scope())


def differences(before: Any, after: Any) -> list[Drift]:
    """
    Compare one job whose parameter ``P`` was one thing and is another; None for no
    parameter.
    """
    old = [] if before is None else [parameter("P", **before)]
    new = [] if after is None else [parameter("P", **after)]
    return compared(entry("churn", *old), job("churn", *new, **CHANGED))


INTEGER = {"type": "Integer"}
FLOAT = {"type": "Float"}
BOOLEAN = {"type": "Boolean"}
TRUE = {**BOOLEAN, "default": True}
FALSE = {**BOOLEAN, "default": False}
ONLY_A = {"enum_values": ["a"]}
A_OR_B = {"enum_values": ["a", "b"]}
DEFAULT_X = {"default": "x"}
DEFAULT_Y = {"default": "y"}
CASES: list[tuple[str, Any, Any, Any, Any, bool]] = [
    ("required_parameter_added", None, INTEGER, None, "Integer", True),
    ("parameter_added", None, {**FLOAT, "default": 0.5}, None, "Float = 0.5", False),
    ("parameter_added", None, DEFAULT_X, None, "String = x", False),
    ("parameter_removed", DEFAULT_X, None, "String = x", None, True),
    ("type_changed", INTEGER, FLOAT, "Integer", "Float", True),
    (
        "type_changed",
        {**INTEGER, "default": 5},
        {"default": "5"},
        "Integer",
        "String",
        True,
    ),
    ("default_changed", DEFAULT_X, DEFAULT_Y, "x", "y", False),
    ("default_changed", {"default": None}, DEFAULT_Y, None, "y", False),
    ("default_changed", DEFAULT_X, {"default": ""}, "x", "", False),
    ("default_changed", TRUE, FALSE, True, False, False),
    ("default_removed", DEFAULT_X, {}, "x", None, True),
    ("default_removed", FALSE, BOOLEAN, False, None, True),
    ("default_removed", {**INTEGER, "default": 0}, INTEGER, 0, None, True),
    ("enum_changed", {}, ONLY_A, None, ["a"], True),
    ("enum_changed", A_OR_B, ONLY_A, ["a", "b"], ["a"], True),
    ("enum_changed", ONLY_A, A_OR_B, ["a"], ["a", "b"], False),
    ("enum_changed", ONLY_A, {}, ["a"], None, False),
]


@pytest.mark.parametrize(("kind", "old", "new", "before", "after", "breaking"), CASES)
def test_change_of_a_parameter_is_one_difference(
    kind: Any, old: Any, new: Any, before: Any, after: Any, breaking: bool
) -> None:
    """
    A change is one difference, with what was and what is, and whether a start can fail
    because of it.
    """
    assert differences(old, new) == [Drift("churn", kind, "P", before, after, breaking)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "Float", "default": 6}, {"type": "Float", "default": 6.0}),
        ({"type": "String", "default": 5}, {"type": "String", "default": "5"}),
        ({"type": "Boolean", "default": "true"}, {"type": "Boolean", "default": True}),
        ({"enum_values": ["a", "b"]}, {"enum_values": ["b", "a"]}),
        ({"enum_values": []}, {"enum_values": None}),
        ({}, {"type": "String"}),
    ],
)
def test_same_value_in_another_form_is_no_difference(old: Any, new: Any) -> None:
    """
    What AWS reads as the same value is no difference: only the definition has changed.
    """
    assert [drift.kind for drift in differences(old, new)] == ["definition_changed"]


def test_true_is_not_one() -> None:
    """For Python True equals 1; as a default of a parameter they are two values."""
    (drift,) = differences({**INTEGER, "default": 1}, {**INTEGER, "default": True})

    assert drift.kind == "default_changed"


def test_definition_alone_is_a_note() -> None:
    """A change of the steps only is no drift, unless it is asked for."""
    found = differences({"default": "x"}, {"default": "x"})

    assert found == [Drift("churn", "definition_changed", None, DIGEST, OTHER_DIGEST)]
    assert count_drift(found) == 0
    assert count_drift(found, strict=True) == 1
    for strict in (False, True):
        assert drift_as_json(found, compared=1, strict=strict) == {
            "drift": strict,
            "compared": 1,
            "changes": [drift._asdict() for drift in found],
        }


TRAIN = {"name": "Train", "type": "Training"}
CHECK = {"name": "Check", "type": "Condition"}
SEND = {"name": "Send", "type": "Lambda"}


def step_differences(before: list[Any], after: list[Any]) -> list[Drift]:
    """
    Compare one job whose steps were these, and are those; the digest of its definition
    differs.
    """
    return compared(entry("churn", steps=before), job("churn", steps=after, **CHANGED))


CALLBACK = {**SEND, "type": "Callback"}
NEEDY = {**SEND, "needs": ["Train", "Check"]}
IF_TRUE = {**SEND, "condition": "Check", "branch": "True"}
IF_FALSE = {**SEND, "condition": "Check", "branch": "False"}
TYPE_CHANGED = "the type was Lambda, and is Callback"
NEEDS_CHANGED = 'it needed nothing, and needs ["Check", "Train"]'
BRANCHES = ("Check: True", "Check: False")
NO_BRANCH = "the branch was Check: True, and is nothing"
BRANCH_CHANGED = "the branch was Check: True, and is Check: False"
REMOVED = "the step does not exist any more; its type was Lambda"


@pytest.mark.parametrize(
    ("kind", "old", "new", "before", "after", "text"),
    [
        ("added", [], [SEND], None, "Lambda", "a new step; its type is Lambda"),
        ("removed", [SEND], [], "Lambda", None, REMOVED),
        ("type_changed", [SEND], [CALLBACK], "Lambda", "Callback", TYPE_CHANGED),
        ("needs_changed", [SEND], [NEEDY], None, ["Check", "Train"], NEEDS_CHANGED),
        ("branch_changed", [IF_TRUE], [IF_FALSE], *BRANCHES, BRANCH_CHANGED),
        ("branch_changed", [IF_TRUE], [SEND], "Check: True", None, NO_BRANCH),
    ],
)
def test_change_of_a_step_is_one_difference_and_no_drift(
    kind: str, old: Any, new: Any, before: Any, after: Any, text: str
) -> None:
    """
    It is one difference, which names the step. It is no drift, unless it is asked for:
    starts stay right.
    """
    found = step_differences([TRAIN, CHECK, *old], [TRAIN, CHECK, *new])

    drift = Drift("churn", f"step_{kind}", None, before, after, step="Send")
    assert found == [drift]
    assert describe_drift(drift) == f"churn, step Send: {text}"
    assert count_drift(found) == 0
    assert count_drift(found, strict=True) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [([TRAIN, SEND], [SEND, TRAIN]), ([], [TRAIN]), ([TRAIN], []), ([TRAIN], [TRAIN])],
)
def test_order_or_lack_of_steps_is_no_difference(old: Any, new: Any) -> None:
    """
    The order says nothing; without the steps of both, only the definition has changed.
    """
    (drift,) = step_differences(old, new)
    assert drift.kind == "definition_changed"


def test_steps_are_noted_beside_the_parameters() -> None:
    """
    What breaks a start comes first, and the steps of each kind are in the order of
    their names.
    """
    before = entry("churn", steps=[TRAIN])
    steps = [TRAIN, *({**SEND, "name": f"S{number}"} for number in (3, 1, 2))]

    found = compared(before, job("churn", parameter("P"), steps=steps))

    kinds = ["required_parameter_added", *["step_added"] * 3]
    assert [drift.kind for drift in found] == kinds
    assert [drift.part for drift in found] == ["P", "S1", "S2", "S3"]
    assert count_drift(found) == 1


def role(name: str, account: str = "123456789012") -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{account}:role/{name}"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (role("train"), role("other"), True),
        (role("train"), role("team/train"), True),
        (role("train"), None, True),
        (role("train"), role("train"), False),
        (role("train"), role("train", "999999999999"), False),
        (None, role("train"), False),
    ],
)
def test_another_role_is_drift_and_another_account_is_not(
    old: str | None, new: str | None, changed: bool
) -> None:
    """
    Another role is drift, also beside a note; the account of the role is not compared,
    nor a role without one.
    """
    expected = [Drift("churn", "definition_changed", None, DIGEST, OTHER_DIGEST)]
    if changed:
        expected.insert(0, Drift("churn", "role_changed", None, old, new))

    before = entry("churn", role_arn=old)
    found = compared(before, job("churn", role_arn=new, **CHANGED))

    assert found == expected
    assert count_drift(found) == changed


@pytest.mark.parametrize(
    ("old", "new"), [(DIGEST, DIGEST), (None, OTHER_DIGEST), (OTHER_DIGEST, None)]
)
def test_same_or_no_digest_is_no_difference(old: str | None, new: str | None) -> None:
    """A file that people wrote without digests can be compared."""
    before = entry("churn", definition_digest=old)

    assert compared(before, job("churn", definition_digest=new)) == []


def test_new_and_deleted_pipelines_are_differences() -> None:
    """A new pipeline is a difference, and one that was deleted breaks its starts."""
    before = Catalogue([entry("gone"), entry("same")], [])
    found = compare(before, [job("new"), job("same")], Scope())

    gone = Drift("gone", "pipeline_removed", breaking=True)
    assert found == [gone, Drift("new", "pipeline_added")]


def test_unreadable_parameters_are_one_difference() -> None:
    """If the parameters cannot be read any more, they are not compared."""
    after = job("churn", parameters_error="not JSON", definition_digest=None)

    found = compared(entry("churn", parameter("P")), after)

    assert found == [Drift("churn", "unreadable", None, None, "not JSON", True)]


def test_parameters_that_stay_unreadable_are_no_difference() -> None:
    """
    People have reviewed a file that says so; if the parameters can be read now, they
    are new.
    """
    unreadable: Any = {"parameters_error": "not JSON", "definition_digest": None}
    before = entry("churn", **unreadable)

    assert compared(before, job("churn", **unreadable)) == []
    (drift,) = compared(before, job("churn", parameter("P")))
    assert drift.kind == "required_parameter_added"


def test_broken_entries_are_differences() -> None:
    """A broken entry is reported once, and its pipeline does not count as new."""
    problems = [("churn", "region: missing"), ("churn", "x"), ("jobs[4]", "no object")]
    catalogue = Catalogue([], list(starmap(BrokenJob, problems[::-1])))

    assert compare(catalogue, [job("churn")], Scope()) == [
        Drift(name, "broken_entry", None, problem, None, True)
        for name, problem in problems
    ]


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (Scope(), ["churn-a", "churnless", "jobs[9]", "other"]),
        (Scope("churn-"), ["churn-a"]),
        (Scope("churn"), ["churn-a", "churnless"]),
        (Scope(names=frozenset(["other"])), ["other"]),
        (Scope(names=frozenset()), []),
    ],
)
def test_scope_limits_what_is_compared(scope: Scope, names: list[str]) -> None:
    """Jobs that the import did not ask for are not missing."""
    broken = [BrokenJob("churnless", "x"), BrokenJob("jobs[9]", "x")]
    catalogue = Catalogue([entry("churn-a"), entry("other")], broken)

    assert [drift.job for drift in compare(catalogue, [], scope)] == names


def test_order_is_by_job_and_breaking_first() -> None:
    """The order depends neither on that of the file nor on that of the import."""
    old = [parameter("A", default="1"), parameter("B")]
    old += [parameter("Z", default="x", enum_values=["x"])]
    new = [parameter("Z", default="y"), parameter("C")]
    new += [parameter("D", default="1"), parameter("A")]
    catalogue = Catalogue([entry("b"), entry("a", *old)], [])

    found = compare(catalogue, [job("c"), job("a", *new)], Scope())

    assert [(drift.job, drift.kind, drift.parameter) for drift in found] == [
        ("a", "required_parameter_added", "C"),
        ("a", "parameter_removed", "B"),
        ("a", "default_removed", "A"),
        ("a", "enum_changed", "Z"),
        ("a", "parameter_added", "D"),
        ("a", "default_changed", "Z"),
        ("b", "pipeline_removed", None),
        ("c", "pipeline_added", None),
    ]
    reverse = Catalogue(catalogue.jobs[::-1], [])
    assert compare(reverse, [job("a", *new[::-1]), job("c")], Scope()) == found


def test_every_kind_has_a_text() -> None:
    """
    Each kind of difference is one line that names the job, and says what was and what
    is.
    """
    for kind in KINDS:
        drift = Drift("churn", kind, "P", "old\nvalue", "{before}", breaking=True)
        line = describe_drift(drift)
        assert line.startswith("churn, parameter P: ")
        assert line.endswith(" (breaking)")
        assert "\n" not in line
        assert change_text(drift) in line
    assert {case[0] for case in CASES} < set(KINDS)
    drift = Drift("a\nb", "enum_changed", None, ["ä", "x\ny"], ["ä"])
    text = 'a b: the allowed values were ["ä", "x\\ny"], and are ["ä"]'
    assert describe_drift(drift) == text
    drift = Drift("j", "default_changed", "P", "a\nb", "x" * 121)
    assert change_text(drift) == f"the default was a b, and is {'x' * 117}..."
    assert len(describe_drift(Drift("j" * 1001, "pipeline_added"))) == 1000
    drift = Drift("j", "default_changed", "P", "{after}", None)
    assert change_text(drift) == "the default was {after}, and is nothing"
