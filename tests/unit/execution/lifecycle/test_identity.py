"""
The identity of a start: its token and its default display name follow from the task.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from polysync_airflow.execution.lifecycle.instructions import (
    Incarnation,
    StartName,
    TaskIdentity,
    TaskKey,
    owner_text,
    read_name,
)
from tests.unit.execution.lifecycle.builders import REQUEST, edited, stored

STARTED = datetime(2026, 1, 1, 0, 0, 7, 123456, UTC)
LATER = STARTED + timedelta(microseconds=1)
KEY = TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", -1)
TASK = TaskIdentity(KEY, "prod", Incarnation(dag_run_started_at=STARTED))


def test_token_stays_the_same_in_every_release() -> None:
    """AWS knows the tokens of the tasks that run during an upgrade."""
    assert TASK.token(2, 0) == "polysync-2236a42f0113d3bdd77629c53af42d854c308575-0"
    # Airflow does not tell the start of every DAG run.
    unknown = replace(TASK, incarnation=Incarnation())
    assert unknown.token(2, 0) == "polysync-8133134b1f735815a91f785bada110ec80525997-0"
    assert (
        TASK.display_name(2, 11)
        == "retraining-train-scheduled-2026-01-01T00-00-00-00-00-64f7ffa057-5bac58bfb1ed-2-11"
    )


@pytest.mark.parametrize(
    "changed",
    [
        replace(TASK, deployment="staging"),
        replace(TASK, key=replace(KEY, dag_id="other")),
        replace(TASK, key=replace(KEY, run_id="other")),
        replace(TASK, key=replace(KEY, task_id="other")),
        replace(TASK, key=replace(KEY, map_index=0)),
        # Another deployment, or the DAG run was created again: it starts at another
        # microsecond.
        replace(TASK, incarnation=Incarnation(dag_run_started_at=LATER)),
        replace(TASK, incarnation=Incarnation(dag_run_started_at=None)),
        replace(
            TASK, incarnation=Incarnation(dag_run_started_at=STARTED, region="7/1")
        ),
        replace(TASK, nonce="x"),
    ],
)
def test_other_task_instances_share_no_token_and_no_mark(changed: TaskIdentity) -> None:
    """Each part of the identity counts."""
    assert changed.token(2, 0) != TASK.token(2, 0)
    assert changed.incarnation_mark != TASK.incarnation_mark


def test_each_start_has_a_token_of_its_own() -> None:
    """Epoch and number count. A clear of another task of the DAG run does not."""
    tokens = {TASK.token(epoch, number) for epoch in range(12) for number in range(12)}
    cleared = replace(
        TASK, incarnation=Incarnation(dag_run_started_at=STARTED, clear_number=3)
    )

    assert len(tokens) == 144
    assert all(re.fullmatch(r"[A-Za-z0-9-]{32,128}", token) for token in tokens)
    assert cleared.token(2, 0) == TASK.token(2, 0)


def test_number_of_the_next_start_is_from_the_record() -> None:
    """A start of this epoch is counted, and no other one."""
    for token, number in (
        (TASK.token(2, 0), 1),
        (TASK.token(2, 10), 11),
        # Another epoch; another task; a token that the task has not made.
        (TASK.token(1, 4), 0),
        (replace(TASK, nonce="x").token(2, 4), 0),
        (f"{TASK.token(2, 0)}x", 0),
    ):
        record = stored(request=edited(REQUEST, client_request_token=token))

        assert TASK.next_number(record, 2) == number
        assert TASK.next_number(None, 2) == 0


def test_default_display_name_has_dag_task_and_run_as_far_as_there_is_room() -> None:
    """
    It has what AWS accepts of DAG, task and run, as much as there is room for, and the
    start can be read from it.
    """
    for key, name in (
        (("_d", "r_", "Xt", -1), "d-Xt-r-{}-2-0"),
        (("X", "r", "t", 0), "X-t-r-0-{}-2-0"),
        (("d", "r", "t", 3), "d-t-r-3-{}-2-0"),
        (("X" * 99, "r", "t", -1), "X" * 54 + "-{}-2-0"),
        # Cut at a hyphen, and right before one.
        (("d-" * 99, "r", "t", -1), "d-" * 26 + "d-{}-2-0"),
        (("dd-" + "d-" * 99, "r", "t", -1), "dd-" + "d-" * 25 + "d-{}-2-0"),
        (("_", "-", ".", -1), "{}-2-0"),
        (("größe", "r", "träning", -1), "gr-e-tr-ning-r-{}-2-0"),
    ):
        task = replace(TASK, key=TaskKey(*key))

        marks = f"{task.task_mark}-{task.incarnation_mark}"
        assert task.display_name(2, 0) == name.format(marks)
        for number in (0, 150):
            longer = task.display_name(12, number)
            assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,81}", longer)
            start = (task.task_mark, task.incarnation_mark, 12, number)
            assert read_name(longer) == start


def test_owner_of_an_execution_is_told_by_its_name() -> None:
    """It is what its name says of DAG, task and run, without the digests at its end."""
    for texts in (
        ("{}", None),
        ("nightly", "Airflow: {}"),
        (None, "Airflow: {}"),
        ("nightly", "Why. Airflow: dags/retraining/runs/r/tasks/train {}"),
    ):
        name = TASK.display_name(2, 0)
        given = [text and text.format(name) for text in texts]

        assert owner_text(*given) == name.removesuffix(
            f"-{TASK.task_mark}-{TASK.incarnation_mark}-2-0"
        )


@pytest.mark.parametrize("url", ["", "https://airflow.example.com/ml/"])
@pytest.mark.parametrize(
    ("key", "page"),
    [
        (
            KEY,
            "dags/retraining/runs/scheduled__2026-01-01T00:00:00+00:00/tasks/train",
        ),
        (
            TaskKey("a.b-c_d", "one two/\n%2F", "group.train", 0),
            "dags/a.b-c_d/runs/one%20two%2F%0A%252F/tasks/group.train/mapped/0",
        ),
        (
            TaskKey("\N{LATIN SMALL LETTER U WITH DIAERESIS}", "r", "t", 99),
            "dags/%C3%BC/runs/r/tasks/t/mapped/99",
        ),
    ],
)
def test_task_instance_in_a_description_is_read_exactly(
    key: TaskKey, page: str, url: str
) -> None:
    """What the author of the DAG wrote before it, and the name after it, do not count."""
    assert key.page == page
    for text in ("Airflow: {}", "Why? Airflow: dags/x/runs/y/tasks/z. Airflow: {} {}"):
        description = text.format(f"{url}{page}", TASK.display_name(2, 0))
        assert TaskKey.in_description(description) == (key, f"{url}{page}")


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "Nightly",
        f"Airflow: {TASK.display_name(2, 0)}",
        "Airflow: dags/d/runs/r",
        "Airflow: dags/d/runs/r/tasks/t/mapped/",
        "Airflow: dags/d/runs/r/tasks/t/mapped/007",
        "Airflow: dags/d/runs/r/tasks/t/mapped/-1",
        "Airflow: dags/%2E/runs/r/tasks/t",
        "Airflow: dags/d/runs/%ff/tasks/t",
        "Airflow: dags/d/runs/r/tasks/t?x=1",
        "Airflow: javascript:x/dags/d/runs/r/tasks/t",
        "xAirflow: dags/d/runs/r/tasks/t",
    ],
)
def test_other_descriptions_name_no_task_instance(description: str | None) -> None:
    """A page that is not written as this provider writes it is not believed."""
    assert TaskKey.in_description(description) is None


def test_execution_of_somebody_else_has_no_owner() -> None:
    """Its name says nothing."""
    assert owner_text("nightly", None) is None


def test_task_instance_that_is_not_mapped_has_the_index_minus_one() -> None:
    """Airflow gives none, or -1."""
    for given, expected in ((None, -1), (-1, -1), (0, 0)):
        ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=given)
        assert TaskKey.of(ti) == TaskKey("d", "r", "t", expected)


OTHERS_NAME = "a-0123456789-0123456789ab-2-11"
OTHERS_START = StartName("0123456789", "0123456789ab", 2, 11)


def test_only_what_ends_as_a_default_name_is_one() -> None:
    """Only what ends as a default name does is one."""
    for texts, start in (
        (("nightly", f"Airflow: {OTHERS_NAME}"), OTHERS_START),
        ((OTHERS_NAME, None), OTHERS_START),
        (("a-0123456789-0123456789ab-2-11x", ""), None),
        (("a-0123456789-0123456789AB-2-11", None), None),
        (("a-0123456789-0123456789ab-2-1234567890", None), None),
        ((None, None), None),
    ):
        assert read_name(*texts) == start
