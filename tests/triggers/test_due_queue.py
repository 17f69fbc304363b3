"""The queue by due time, compared with a plain list."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.triggers.due_queue import DueQueue

ITEMS = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("put"), ITEMS, st.integers(0, 3)),
    st.tuples(st.just("discard"), ITEMS, st.just(0)),
    st.tuples(st.just("pop"), st.just(0), st.just(0)),
)


@given(st.lists(STEPS))
def test_items_come_in_the_order_of_a_sorted_list(steps: list[tuple[str, int, int]]) -> None:
    """Items that are put, put again, discarded or popped come in the order of a list sorted by due time."""
    queue: DueQueue[int] = DueQueue()
    expected: list[tuple[int, int]] = []
    for step, item, due in steps:
        if step == "pop":
            if not expected:
                with pytest.raises(IndexError):
                    queue.pop()
                continue
            expected.sort(key=lambda entry: entry[0])
            assert queue.pop() == expected.pop(0)[1]
        else:
            expected = [entry for entry in expected if entry[1] != item]
            if step == "put":
                queue.put(item, due)
                expected.append((due, item))
            else:
                queue.discard(item)
        assert queue.next_due == min((due for due, _ in expected), default=None)
        assert [item for item in range(6) if item in queue] == sorted(item for _, item in expected)


def test_entries_are_not_tracked_by_the_garbage_collector() -> None:
    """Thousands of executions are put again for each poll, which must not trigger full garbage collections."""
    queue: DueQueue[int] = DueQueue()
    gc.collect()
    before = len(gc.get_objects())

    for item in range(1000):
        queue.put(item, float(item))
    gc.collect()

    assert len(gc.get_objects()) - before < 10
