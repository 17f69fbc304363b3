"""
Whose an execution is, where no proven record of this deployment names it: in a copy of
the database, all task instances are those of another deployment, and so are their
executions.

Rules:

1. The name of an execution says which deployment has started it, since a digest of the
   deployment is part of it.
2. Where it has no such name, because the DAG author gives one, or AWS does not tell it,
   the deployment counts that the record names, proven or not. A record that somebody
   has edited may keep an execution from its stop, but leads to none.
3. Each start stores the identity of its deployment before. So a deployment without one
   has started nothing, if there is no record either, and Airflow hides neither.
4. Records that were imported with their identity name this deployment. Only the
   database tells them from own ones: a task has begun in it before it writes a record.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from polysync_airflow.execution.lifecycle import instructions


@dataclass(frozen=True, slots=True)
class Provenance:
    """
    What a process knows of the deployment that has started an execution.

    :param key: the task instance that waits for the execution.
    :param deployment: the identity of this deployment; None if it has none, or if
        Airflow hides it.
    :param named_deployment: the one that the stored record names; None without a record
        that can be read.
    :param is_hidden: whether Airflow hides the identity and the record from this
        process.
    """

    key: instructions.TaskKey
    deployment: str | None
    named_deployment: str | None = None
    is_hidden: bool = False

    def is_of_other_deployment(self, name: instructions.StartName | None) -> bool:
        """
        Return whether another deployment has started the execution.

        :param name: what the execution says of its start; None if it says nothing, or
            if AWS does not tell.
        """
        own = self.deployment
        if own is None:
            return self.named_deployment is None and not self.is_hidden
        if name is not None:
            return name.task_mark != instructions.task_mark(self.key, own)
        return self.named_deployment not in (None, own)


def has_never_begun(
    try_numbers: Collection[int], is_in_audit_log: Callable[[], bool]
) -> bool:
    """
    Return whether no try of a task instance has begun in a database (rule 4).

    :param try_numbers: that of its newest try, or of the newest one of each pass in a
        loop; empty if the task instance was deleted. Before its first try, it is 0.
    :param is_in_audit_log: asks whether Airflow's audit log has a try of it.
    """
    return not any(try_numbers) and not is_in_audit_log()
