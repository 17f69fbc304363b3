"""Updates the XCom ``steps`` of a deferred task, from its trigger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import read_xcom, write_xcom
from polysync_airflow.execution.pipelines.definition import DeclaredStep
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.rows import STEPS_KEY, fit_rows, parse_rows, rows_of

# The worker pushes the steps again at the end, so the end does not wait for long.
FINISH_SECONDS: Final = 10.0


class StepPusher:
    """
    Pushes the steps of an execution, one push at a time, in a thread. Use it in one event loop.

    :param warn: called with a message if Airflow does not store the XCom.
    """

    def __init__(self, ti: Any, execution_arn: str, warn: Callable[[str], object]) -> None:
        self._ti = ti
        self._arn = execution_arn
        self._warn = warn
        self._next: Sequence[StepDescription] | None = None
        self._pushing: asyncio.Task[None] | None = None
        # What the definition says of each step, in its order, in JSON: a triggerer holds thousands of them.
        self._order: str | None = None

    def push(self, steps: Sequence[StepDescription]) -> None:
        """Push steps as soon as the push before has ended; of several that wait, only the last one."""
        self._next = steps
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push_all())

    async def finish(self) -> None:
        """Wait for the push that is running: a later one of the worker must not be overwritten by it."""
        if self._pushing:
            await asyncio.wait((self._pushing,), timeout=FINISH_SECONDS)

    def cancel(self) -> None:
        """Push nothing more."""
        self._next = None
        if self._pushing:
            self._pushing.cancel()

    async def _push_all(self) -> None:
        while self._next is not None:
            steps, self._next = self._next, None
            try:
                await asyncio.to_thread(call_airflow, partial(self.store, steps))
            except Exception as error:
                self._warn(
                    f"Airflow does not store the steps of the execution: {type(error).__name__}: {error}"
                )

    def store(self, steps: Sequence[StepDescription]) -> None:
        """Store steps. Sends requests to Airflow."""
        if self._order is None:
            # The worker has pushed them. Read once: a request costs more than all the rest of a push.
            before = parse_rows(read_xcom(self._ti, STEPS_KEY))
            self._order = json.dumps(
                [(row.name, row.type, row.condition, row.branch, row.not_selected) for row in before]
            )
        order = [
            DeclaredStep(name, kind, condition, branch, not_selected=not_selected)
            for name, kind, condition, branch, not_selected in json.loads(self._order)
        ]
        value, _ = fit_rows(rows_of(steps, order, self._arn))
        write_xcom(self._ti, STEPS_KEY, value)
