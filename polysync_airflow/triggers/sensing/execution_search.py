"""The trigger that searches for an execution that others have started, without a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat.supervisor import use_event_loop
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, MAX_TIMESTAMP, MIN_POLL_INTERVAL
from polysync_airflow.execution.parameters import check_trigger_arguments
from polysync_airflow.execution.search.criteria import pick
from polysync_airflow.execution.search.lookout import Lookout
from polysync_airflow.execution.search.models import ListedExecution, SearchArguments, SearchEvent
from polysync_airflow.triggers.sensing.shared_search import Listed, Searcher, searcher_for


class PolysyncPipelineSearchTrigger(BaseTrigger):
    """
    Wait for an execution of a SageMaker pipeline that somebody starts, then fire one event.

    ``run`` only lists, since Airflow may run a trigger twice at the same time. The class path and the
    arguments are stored in Airflow's database: they are public, and hold no credentials.

    :param search: what is looked for: the fields of ``Search``, as JSON.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds between two lists.
    :param listed_until: when the sensor has listed the executions on a worker, in seconds since the epoch;
        None if it has not.
    :param deadline: when the search ends at the latest, in seconds since the epoch.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    def __init__(
        self,
        *,
        search: Mapping[str, Any],
        polysync_conn_id: str,
        region_name: str | None,
        poll_interval: float,
        listed_until: float | None,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.search = search
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.listed_until = listed_until
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        arguments = {name: getattr(self, name) for name in SearchArguments.model_fields}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Search until the decision core ends the search; yield its event as a JSON-able dict.

        :raises ParametersError: an argument of the stored trigger is not valid.
        """
        use_event_loop()
        arguments = check_trigger_arguments(SearchArguments, self.serialize()[1])
        deadline = min(arguments.deadline, MAX_TIMESTAMP)
        lookout = Lookout(arguments.search, deadline, arguments.listed_until, shared=True)
        interval = min(max(arguments.poll_interval, MIN_POLL_INTERVAL), MAX_POLL_INTERVAL)
        searcher = searcher_for(self.polysync_conn_id, self.region_name)
        subscription = searcher.subscribe(lookout, interval)
        try:
            while True:
                listed = await searcher.next_look(subscription)
                found = await self._pick(searcher, lookout, listed)
                step = lookout.decide(found, listed.at, clock.time())
                if isinstance(step, SearchEvent):
                    break
                for line in step.log_lines:
                    # With the logger of the class, as PolysyncPipelineExecutionTrigger does.
                    self.logger().log(line.level, "%s", line.text)
                lookout = step.lookout
                searcher.look_again(subscription, lookout, listed.at)
            yield TriggerEvent(step.model_dump(mode="json"))  # type: ignore[no-untyped-call]
        finally:
            searcher.unsubscribe(subscription)

    async def _pick(
        self, searcher: Searcher, lookout: Lookout, listed: Listed
    ) -> ListedExecution | PolysyncError | None:
        if isinstance(listed.result, PolysyncError):
            return listed.result
        call = partial(pick, lookout.search, listed.result, searcher.client.parameters_of)
        try:
            # Parameters are read from AWS, which must not stop the event loop.
            return await searcher.in_thread(call) if lookout.search.parameters else call()
        except PolysyncError as error:
            return error
