"""
The methods of the Start operator that Airflow's OpenLineage provider calls when a task starts and ends.

The provider calls them on the worker, after the task's own code, in a process or a thread of its own that has
limited time. An error in them is written to the task's log and changes nothing else:
https://airflow.apache.org/docs/apache-airflow-providers-openlineage/stable/guides/developer.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.outcome import ExecutionRecord
    from polysync_airflow.execution.results.datasets import Datasets


@dataclass(frozen=True, slots=True)
class KnownLineage:
    """
    What a process of a task knows of its execution.

    :param run: the XCom ``run``.
    :param datasets: what the steps have read and written; None before the wait has ended.
    """

    run: ExecutionRecord
    datasets: Datasets | None = None


class LineageMethods:
    """
    The OpenLineage methods of an operator that starts an execution.

    They make no call: the operator has set ``known_lineage`` in the same process.
    """

    # None while there is no execution.
    known_lineage: KnownLineage | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the start: the pipeline and the parameters."""
        from polysync_airflow.lineage.facets import before_start

        task: Any = self
        return before_start(task.pipeline_name, task.region_name, task.pipeline_parameters)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what is known of the execution, and the datasets of its steps."""
        from polysync_airflow.lineage.facets import of_execution

        task: Any = self
        known = self.known_lineage
        if known is None:
            return self.get_openlineage_facets_on_start()
        return of_execution(known.run, known.datasets, inlets=task.inlets, outlets=task.outlets)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the same for a task that has failed, perhaps before it had an execution."""
        return self.get_openlineage_facets_on_complete(task_instance)
