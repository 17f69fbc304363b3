"""The schedule of the polls, which depends on nothing but its arguments."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysync_airflow.exceptions import (
    PAGINATION,
    RESPONSE_TOO_LARGE,
    CredentialsError,
    PolysyncError,
)
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import (
    FIRST_POLL_DELAY_SECONDS,
    LAST_POLL_SECONDS,
    ExecutionWaiter,
)
from polysync_airflow.triggers.schedule import (
    CLOCK_SKEW_SECONDS,
    AfterListing,
    Job,
    Listing,
    Schedule,
    ScheduledWait,
    first_poll,
    list_created_after,
)
from tests.conftest import leave_out_of_collections
from tests.unit.execution.lifecycle.builders import api_error

NOW = 1_750_000_000.0
EARLIEST = NOW + FIRST_POLL_DELAY_SECONDS


def make_waiter(
    name: str = "fanout",
    poll_interval: float = 30,
    deadline: float = NOW + 7200,
    execution: str = "abcdefghijkl",
) -> ExecutionWaiter:
    """Return the state of a wait that has just begun."""
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{name}/execution/{execution}"
    return ExecutionWaiter(
        execution_arn=arn,
        cost_limit=None,
        pipeline_name=name,
        poll_interval=poll_interval,
        since=NOW,
        deadline=deadline,
    )


def scheduled(
    dues: Sequence[float], *, executions: str = "abcdef", calls: int = 1
) -> tuple[
    Schedule[ScheduledWait[ExecutionWaiter]], list[ScheduledWait[ExecutionWaiter]]
]:
    """
    Return a schedule with subscriptions to executions of one pipeline, polled at these
    times after NOW.
    """
    schedule: Schedule[ScheduledWait[ExecutionWaiter]] = Schedule(calls)
    subscriptions = []
    for due, execution in zip(dues, executions, strict=False):
        subscription = ScheduledWait(make_waiter(execution=execution))
        schedule.add(subscription, NOW - 60)
        schedule.poll_at(subscription, NOW + due, NOW - 60)
        subscriptions.append(subscription)
    return schedule, subscriptions


def begun(
    schedule: Schedule[ScheduledWait[ExecutionWaiter]],
    *,
    can_list: bool = True,
    now: float = NOW,
) -> Job[ScheduledWait[ExecutionWaiter]]:
    """Begin the next poll, and return it."""
    job = schedule.next_job(now, can_list=can_list)
    schedule.begin(job)
    return job


# ---- the first poll


def test_first_polls_of_many_pipelines_are_spread_over_the_interval() -> None:
    """
    A triggerer that takes over a thousand waits makes about as many polls in each
    second, none too early.
    """
    polls = [
        first_poll(make_waiter(f"pipeline-{n}"), NOW, None) - NOW for n in range(1000)
    ]

    assert min(polls) >= FIRST_POLL_DELAY_SECONDS
    assert max(polls) <= 30
    per_second = [
        sum(second <= poll < second + 1 for poll in polls) for second in range(5, 30)
    ]
    assert max(per_second) < 3 * 1000 / 25
    assert min(per_second) > 1000 / 25 / 3


def test_first_polls_are_spread_even_with_a_short_interval() -> None:
    """
    If the interval is not longer than the delay of the first poll, the polls still do
    not come all at once.
    """
    polls = {
        first_poll(make_waiter(f"pipeline-{n}", poll_interval=2), NOW, None) - NOW
        for n in range(100)
    }

    assert len(polls) > 90
    assert max(polls) > 2 * FIRST_POLL_DELAY_SECONDS - 1
    assert max(polls) <= 2 * FIRST_POLL_DELAY_SECONDS


def test_new_execution_is_polled_together_with_its_pipeline() -> None:
    """
    If its pipeline is polled already, an execution is polled first in one of the
    pipeline's polls.
    """
    for next_poll, interval, first in (
        # In the pipeline's next poll, if that is not too early.
        (5, 30, 5),
        (20, 30, 20),
        # One interval after the earliest time at the latest.
        (35, 30, 35),
        (50, 30, 35),
        # In a later poll of the pipeline, if the next one is too early, or over.
        (4, 30, 34),
        (4, 1, 5),
        (3, 2, 5),
        (2, 2, 6),
        (-100, 30, 20),
    ):
        schedule, (polled,) = scheduled([0])
        polled.group.next_poll = NOW + next_poll
        new = ScheduledWait(make_waiter(poll_interval=interval))

        schedule.add(new, NOW)

        assert new.due == NOW + first
        assert new.earliest_poll == EARLIEST


@given(st.floats(-1000, 1000), st.floats(1, 600))
def test_first_poll_is_within_an_interval(offset: float, interval: float) -> None:
    """
    It is never before the delay of the first poll, and at most one interval after it.
    """
    due = first_poll(make_waiter(poll_interval=interval), NOW, NOW + offset)

    assert EARLIEST <= due <= EARLIEST + interval


def test_first_poll_is_at_the_deadline_at_the_latest() -> None:
    """
    A deadline before the next poll brings the first poll forward, but not before the
    delay of the first poll.
    """
    assert first_poll(make_waiter(deadline=NOW + 8), NOW, NOW + 20) == NOW + 8
    assert first_poll(make_waiter(deadline=NOW - 100), NOW, None) == EARLIEST


def test_next_poll_of_a_pipeline_is_the_earliest_in_the_future() -> None:
    """Later polls do not move it; a poll in the past, or now, is replaced."""
    schedule, (subscription,) = scheduled([10])
    pipeline = subscription.group
    seen = []
    for due, now in ((20, 0), (5, 0), (40, 4), (40, 5), (50, 6), (60, 41)):
        schedule.poll_at(subscription, NOW + due, NOW + now)
        seen.append((pipeline.next_poll or 0) - NOW)

    assert seen == [20, 5, 5, 40, 40, 60]


# ---- the order


def test_polls_come_by_their_due_times() -> None:
    """
    The earliest poll is first; of polls that are due at the same time, that of the
    older subscription.
    """
    schedule, (a, b, c) = scheduled([3, 1, 1])

    jobs = [begun(schedule, can_list=False) for _ in range(3)]

    assert [job.waits for job in jobs] == [[b], [c], [a]]
    assert [job.group for job in jobs] == [None, None, None]
    assert schedule.next_due is None
    with pytest.raises(IndexError, match=r"^no poll is scheduled$"):
        schedule.next_job(NOW, can_list=True)


def test_a_poll_that_did_not_begin_is_still_due() -> None:
    """If no thread can be started, the same poll comes again."""
    schedule, (a,) = scheduled([1])

    assert (
        schedule.next_job(NOW, can_list=True)
        == schedule.next_job(NOW, can_list=True)
        == Job([a])
    )
    assert schedule.next_due == NOW + 1


def test_the_last_due_time_counts() -> None:
    """A subscription that is scheduled again is polled once, at its new time."""
    schedule, (a, b) = scheduled([1, 2])
    schedule.poll_at(a, NOW + 3, NOW)

    assert begun(schedule, can_list=False).waits == [b]
    assert schedule.next_due == NOW + 3
    assert begun(schedule, can_list=False).waits == [a]
    assert schedule.next_due is None


@pytest.mark.parametrize("running", [False, True])
def test_a_subscription_that_has_ended_is_not_polled(running: bool) -> None:
    """Neither at its due time, nor because a poll that was running has ended."""
    schedule, (a, b) = scheduled([1, 2])
    if running:
        begun(schedule, can_list=False)
    schedule.remove(a)
    schedule.remove(a)
    schedule.poll_at(a, NOW + 1, NOW)
    schedule.describe_next(a)

    assert a.ended
    assert list(schedule.waits.values()) == [b]
    assert begun(schedule, can_list=False).waits == [b]
    assert schedule.next_due is None


def test_a_description_comes_before_all_polls_and_alone() -> None:
    """
    A listing has shown the end of an execution: what is missing is in no other listing.
    """
    schedule, (a, b, c) = scheduled([1, 2, 3])
    schedule.describe_next(c)

    assert begun(schedule) == Job([c])
    schedule.describe_next(c)
    schedule.begin(Job([c]))
    assert begun(schedule) == Job([a, b], a.group)


def test_pipelines_that_are_not_polled_any_more_are_forgotten() -> None:
    """
    A deployment may create a pipeline for each run, and a poller may live for months.
    """
    schedule, (a, b) = scheduled([1, 2])
    pipeline = a.group
    schedule.remove(a)
    late = ScheduledWait(make_waiter())
    schedule.add(late, NOW)
    assert late.group is pipeline

    for subscription in (b, late):
        schedule.remove(subscription)
    again = ScheduledWait(make_waiter())
    schedule.add(again, NOW)

    assert again.group is not pipeline
    assert pipeline.waits == {}
    assert again.group.name == pipeline.name


def test_entries_are_not_tracked_by_the_garbage_collector() -> None:
    """
    Thousands of executions are scheduled again after each poll: that must not cause
    full collections.
    """
    leave_out_of_collections()
    schedule, (a,) = scheduled([1])
    gc.collect()
    before = len(gc.get_objects())

    for number in range(1000):
        schedule.poll_at(a, NOW + number, NOW)
    gc.collect()

    assert len(gc.get_objects()) - before < 10


# ---- listings


def test_listing_is_used_only_if_it_takes_fewer_calls() -> None:
    """
    With the same number of calls, the executions are described, since a description has
    more details.
    """
    for pages, dues, executions, together in (
        (1, [0], "a", 1),
        (1, [0, 0], "ab", 2),
        (2, [0, 0], "ab", 1),
        (2, [0, 0, 0], "abc", 3),
        # What is due before the first one would be polled again. Polls that run are not
        # due.
        (1, [0, 30, 30.1], "abc", 2),
        (1, [0, 30.1, 30.1], "abc", 1),
        # Two tasks may wait for the same execution.
        (1, [0, 0], "aa", 1),
        (1, [0, 0, 0], "aab", 3),
    ):
        schedule, subscriptions = scheduled(dues, executions=executions)
        pipeline = subscriptions[0].group
        pipeline.calls = pages

        job = begun(schedule)

        assert job.waits[0] is subscriptions[0]
        assert set(job.waits) == set(subscriptions[:together])
        assert job.group is (pipeline if together > 1 else None)
        assert [each.due is None for each in subscriptions] == [
            each < together for each in range(len(dues))
        ]


def test_listing_leaves_out_what_runs_and_what_is_new() -> None:
    """
    An execution whose poll runs, or whose first seconds have not passed, is not in a
    listing.
    """
    schedule, (running, a, b, new) = scheduled([0, 1, 2, 3])
    schedule.begin(Job([running]))
    new.earliest_poll = NOW + 0.1

    assert set(begun(schedule).waits) == {a, b}
    schedule.poll_at(a, NOW + 1, NOW)
    assert set(begun(schedule, now=NOW + 0.1).waits) == {a, new}


@pytest.mark.parametrize(("of_client", "of_pipeline"), [(False, True), (True, False)])
def test_what_cannot_be_listed_is_described(of_client: bool, of_pipeline: bool) -> None:
    """The permission may be missing altogether, or for one pipeline."""
    schedule, (a, _) = scheduled([0, 1])
    a.group.can_list = of_pipeline

    assert begun(schedule, can_list=of_client) == Job([a])


def test_other_pipelines_are_not_in_a_listing() -> None:
    """A listing is that of one pipeline."""
    schedule, (a, b) = scheduled([0, 1])
    other = ScheduledWait(make_waiter("other"))
    schedule.add(other, NOW - 60)
    schedule.poll_at(other, NOW + 0.5, NOW - 60)

    assert begun(schedule) == Job([a, b], a.group)
    assert begun(schedule) == Job([other])


def row(
    subscription: ScheduledWait[ExecutionWaiter], status: str = "Executing"
) -> ExecutionDescription:
    """Return the entry of a listing for the execution of a subscription."""
    arn = subscription.waiter.name
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status}
    )


def listed(
    *rows: ExecutionDescription, pages: int = 1, error: PolysyncError | None = None
) -> Listing:
    """Return the result of a listing."""
    return Listing({each.execution_arn: each for each in rows}, pages, error)


def test_after_a_listing_ended_and_missing_executions_are_described() -> None:
    """
    It has neither the reason nor the time of an end. A description counts as one more
    call of the next listing.
    """
    schedule, (a, b, c) = scheduled([0, 1, 2])
    waits = begun(schedule).waits
    listing = listed(row(a), row(b, "Failed"), pages=2)

    after = schedule.after_listing(a.group, waits, listing)

    assert after == AfterListing([(a, row(a))])
    assert {begun(schedule).waits[0], begun(schedule).waits[0]} == {b, c}
    assert a.group.calls == 3
    schedule.after_listing(a.group, waits, listed(*map(row, (a, b, c))))
    assert a.group.calls == 1


def test_listing_that_failed_is_a_failed_poll_of_what_it_lacks() -> None:
    """The pipeline is listed again later."""
    for error in (
        api_error("InternalFailure"),
        CredentialsError("gone"),
        PolysyncError("x", permanent=False),
    ):
        schedule, (a, b) = scheduled([0, 1])

        after = schedule.after_listing(
            a.group, begun(schedule).waits, listed(row(a), pages=7, error=error)
        )

        assert after == AfterListing([(a, row(a)), (b, error)])
        assert (a.group.can_list, a.group.calls, schedule.next_due) == (True, 1, None)


def test_listing_that_cannot_succeed_is_given_up() -> None:
    """
    The executions may be described nevertheless. Without the permission, no pipeline
    can be listed.
    """
    for error, warning, is_denied in (
        (
            api_error("AccessDeniedException", permanent=True),
            "Each execution is described on its own, which takes more calls: AWS said no",
            True,
        ),
        (api_error("ResourceNotFound", permanent=True), None, False),
        (
            api_error(PAGINATION),
            "Each execution of {} is described on its own: AWS said no",
            False,
        ),
        (
            api_error(RESPONSE_TOO_LARGE),
            "Each execution of {} is described on its own: AWS said no",
            False,
        ),
    ):
        schedule, (a, b) = scheduled([0, 1])

        after = schedule.after_listing(
            a.group, begun(schedule).waits, listed(row(a), error=error)
        )

        assert after == AfterListing(
            [(a, row(a))], warning and warning.format(a.group.name), is_denied
        )
        # A connection that has changed may list the pipeline again.
        assert a.group.can_list is is_denied
        assert begun(schedule, can_list=not is_denied) == Job([b])


# ---- polls that serve all at no cost


def test_waits_of_a_group_are_polled_together_if_that_costs_nothing() -> None:
    """A single one, too: its poll serves those that come later."""
    schedule, subscriptions = scheduled([0, 1, 2], executions="aaa", calls=0)

    job = begun(schedule)

    assert set(job.waits) == set(subscriptions)
    assert job.group is subscriptions[0].group


# ---- polls that do not come in time

LATE = NOW + LAST_POLL_SECONDS


def scheduled_deadlines(
    *seconds: float,
) -> tuple[
    Schedule[ScheduledWait[ExecutionWaiter]], list[ScheduledWait[ExecutionWaiter]]
]:
    """Return a schedule with subscriptions that have these deadlines after NOW."""
    schedule: Schedule[ScheduledWait[ExecutionWaiter]] = Schedule(calls=1)
    subscriptions = []
    for deadline, execution in zip(seconds, "abcdef", strict=False):
        subscriptions.append(
            ScheduledWait(make_waiter(execution=execution, deadline=NOW + deadline))
        )
        schedule.add(subscriptions[-1], NOW - 60)
    return schedule, subscriptions


def test_waits_end_whose_last_poll_does_not_come_in_time() -> None:
    """The time for the last poll passes between two checks, while calls run."""
    schedule, (past, soon, later) = scheduled_deadlines(0, 1, LAST_POLL_SECONDS + 1)

    assert schedule.late(NOW) == ([], LAST_POLL_SECONDS)
    assert schedule.late(LATE - 1) == ([], 1)
    assert schedule.late(LATE) == ([past], LAST_POLL_SECONDS)
    schedule.remove(past)
    assert schedule.late(LATE + LAST_POLL_SECONDS) == ([soon], LAST_POLL_SECONDS)
    schedule.remove(soon)
    assert schedule.late(LATE + 2 * LAST_POLL_SECONDS) == ([later], LAST_POLL_SECONDS)


def test_waits_have_time_for_their_last_poll_after_the_process_stood_still() -> None:
    """Their deadlines were not past when they were checked last."""
    schedule, (subscription,) = scheduled_deadlines(1)
    schedule.late(NOW)

    assert schedule.late(NOW + 3600) == ([], LAST_POLL_SECONDS)
    assert schedule.late(NOW + 3600 + LAST_POLL_SECONDS)[0] == [subscription]


def test_no_wait_is_late_while_no_call_runs() -> None:
    """Then its poll begins when it is due. The time for it begins anew."""
    schedule, _ = scheduled_deadlines(-1)
    schedule.late(NOW)

    schedule.end_checks()

    assert schedule.late(LATE) == ([], LAST_POLL_SECONDS)


# ---- what AWS is asked for


def test_listings_begin_with_the_oldest_awaited_execution() -> None:
    """
    The creation time is AWS's if it is known, else the beginning of the wait with a
    margin for a wrong clock.
    """
    created_at = datetime.fromtimestamp(NOW - 50, UTC)
    polled = replace(make_waiter(), started_at=created_at)

    assert list_created_after([polled]).timestamp() == NOW - 51
    assert (
        list_created_after([polled, make_waiter()]).timestamp()
        == NOW - CLOCK_SKEW_SECONDS - 1
    )
    assert list_created_after([make_waiter()]).tzinfo is UTC


def test_pipeline_arn_is_part_of_the_execution_arn() -> None:
    """
    An ARN has the pipeline's name in lower case, so AWS gets the pipeline's ARN instead
    of a name.
    """
    assert (
        make_waiter("execution").group
        == "arn:aws:sagemaker:us-east-1:123456789012:pipeline/execution"
    )
