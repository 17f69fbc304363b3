"""What is due when, held against a plain list of it."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.triggers.due_queue import DueQueue

ITEMS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("put"), ITEMS, st.integers(0, 3)),
    st.tuples(st.just("drop"), ITEMS, st.just(0)),
    st.tuples(st.just("pop"), st.just(0), st.just(0)),
)


@given(st.lists(STEPS))
def test_the_first_is_what_a_sorted_list_has_first(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is put in, put in anew, dropped or taken out."""
    agenda: DueQueue[int] = DueQueue()
    plain: list[tuple[int, int]] = []
    for what, item, due in steps:
        if what == "pop":
            if not plain:
                with pytest.raises(IndexError):
                    agenda.pop()
                continue
            plain.sort(key=lambda entry: entry[0])
            assert agenda.pop() == plain.pop(0)[1]
        else:
            plain = [entry for entry in plain if entry[1] != item]
            if what == "put":
                agenda.put(item, due)
                plain.append((due, item))
            else:
                agenda.drop(item)
        assert agenda.next_due == min((due for due, _ in plain), default=None)
        assert [item for item in range(6) if item in agenda] == sorted(item for _, item in plain)


def test_what_is_due_anew_in_each_round_is_nothing_for_the_garbage_collector() -> None:
    """Thousands of waits are put in again and again: that may provoke no collection of everything."""
    agenda: DueQueue[int] = DueQueue()
    gc.collect()
    before = len(gc.get_objects())

    for item in range(1000):
        agenda.put(item, float(item))
    gc.collect()

    assert len(gc.get_objects()) - before < 10
