"""Pushes the steps of an execution from a triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import read_xcom, write_xcom
from polysync_airflow.execution.lifecycle.instructions import NamedTask
from polysync_airflow.execution.prices import SPENDING_KEY, Spending
from polysync_airflow.execution.steps import descriptions

# The worker pushes the steps again at the end, so the end does not wait for long.
FINISH_SECONDS: Final = 10.0


@dataclass
class StepPusher:
    """
    Pushes the steps of an execution, one push at a time, in a thread. Use it in one
    event loop.

    :param warn: called with a message if Airflow does not store the XCom.
    :param order: the declared steps, as ``order_text`` returns them; None to read them
        from the XCom.
    """

    ti: NamedTask
    arn: str
    warn: Callable[[str], object]
    order: str | None = None
    _next: tuple[Sequence[descriptions.StepDescription], Spending | None] | None = None
    _pushing: asyncio.Task[None] | None = None

    def push(
        self,
        steps: Sequence[descriptions.StepDescription],
        spending: Spending | None = None,
    ) -> None:
        """
        Push steps as soon as the push before has ended; of several that wait, only the
        last one.

        :param steps: none for the spending only.
        :param spending: what the task has spent; None without ``max_cost``.
        """
        self._next = steps, spending
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push_all())

    async def finish(self) -> None:
        """
        Wait for the push that is running: a later one of the worker must not be
        overwritten by it.
        """
        if self._pushing:
            await asyncio.wait((self._pushing,), timeout=FINISH_SECONDS)

    def cancel(self) -> None:
        """Push nothing more."""
        self._next = None
        if self._pushing:
            self._pushing.cancel()

    async def _push_all(self) -> None:
        while self._next is not None:
            store = partial(self.store, *self._next)
            self._next = None
            try:
                await asyncio.to_thread(call_airflow, store)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                self.warn(
                    f"Airflow does not store the steps of the execution: {problem}"
                )

    def store(
        self,
        steps: Sequence[descriptions.StepDescription],
        spending: Spending | None = None,
    ) -> None:
        """Store steps, and what the task has spent. Sends requests to Airflow."""
        if spending:
            write_xcom(self.ti, SPENDING_KEY, spending.model_dump(mode="json"))
        if not steps:
            return
        if self.order is None:
            # The worker has pushed the rows. Read once: a request costs more than the
            # rest of a push.
            pushed = descriptions.parse_rows(read_xcom(self.ti, descriptions.STEPS_KEY))
            self.order = descriptions.order_text(pushed)
        rows = descriptions.rows_of(steps, descriptions.order_of(self.order), self.arn)
        write_xcom(self.ti, descriptions.STEPS_KEY, descriptions.fit_rows(rows)[0])
