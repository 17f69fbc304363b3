"""The search for an execution in one session of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.outcome import search_error
from polysync_airflow.execution.search.criteria import is_settled, pick
from polysync_airflow.execution.search.lookout import Lookout
from polysync_airflow.execution.search.models import ListedExecution, SearchEvent

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook


class WorkerSearch:
    """
    Looks at AWS's list. What it decides is decided in ``execution/search/``, as for the search trigger.

    :param hook: a hook with the task's connection.
    :param is_repeated: whether the next look is made by another process, which must find the same execution.
    """

    def __init__(self, hook: PolysyncSageMakerHook, lookout: Lookout, log: Any, *, is_repeated: bool) -> None:
        self.lookout = lookout
        self._hook = hook
        self._log = log
        self._is_repeated = is_repeated

    def look(self) -> str | None:
        """
        Return the ARN of the execution; None if there is none yet.

        :raises PolysyncError: the search has ended without one.
        """
        listed_at = clock.time()
        result = self._find()
        now = clock.time()
        if isinstance(result, ListedExecution) and not self._is_settled(result, now):
            self._log.info("Found, but AWS may still list another one: %s", result.execution_arn)
            result = None
        step = self.lookout.decide(result, listed_at, now)
        if isinstance(step, SearchEvent):
            return found(step)
        for line in step.log_lines:
            self._log.log(line.level, "%s", line.text)
        self.lookout = step.lookout
        return None

    def _is_settled(self, result: ListedExecution, now: float) -> bool:
        lasts = self._is_repeated and now < self.lookout.deadline
        return not lasts or is_settled(self.lookout.search, result, now)

    def _find(self) -> ListedExecution | PolysyncError | None:
        search = self.lookout.search
        try:
            listed = self._hook.find_pipeline_executions(
                search.pipeline_name,
                created_after=self.lookout.list_after,
                created_before=search.created_before,
            )
            return pick(search, listed, self._hook.list_pipeline_parameters_for_execution)
        except PolysyncError as error:
            return error


def found(end: SearchEvent) -> str:
    """
    Return the ARN of the execution that a search has found.

    :raises PolysyncError: it has found none.
    """
    if end.execution_arn is None:
        raise search_error(end)
    return end.execution_arn
