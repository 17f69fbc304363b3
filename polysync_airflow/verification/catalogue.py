"""What the provider believes of AWS: each belief once, with its check. ``beliefs/`` has them by subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.texts import nearest_name, shorten
from polysync_airflow.verification.beliefs import (
    jobs,
    links,
    lists,
    outcomes,
    parameters,
    permissions,
    retries,
    selections,
    starts,
    stops,
)
from polysync_airflow.verification.beliefs.messages import callbacks, events
from polysync_airflow.verification.models import Belief

BELIEFS: Final[tuple[Belief, ...]] = (
    *starts.BELIEFS,
    *parameters.BELIEFS,
    *lists.BELIEFS,
    *stops.BELIEFS,
    *retries.BELIEFS,
    *selections.BELIEFS,
    *outcomes.BELIEFS,
    *links.BELIEFS,
    *jobs.BELIEFS,
    *events.BELIEFS,
    *callbacks.BELIEFS,
    *permissions.BELIEFS,
)
# The subjects, as titles of tables.
SUBJECTS: Final = {
    "start": "Starts",
    "parameter": "Parameters",
    "list": "Lists and names",
    "stop": "Stops",
    "resume": "Resumes",
    "selection": "Selective executions",
    "outcome": "Outcomes",
    "link": "Console links",
    "job": "Jobs (`--with-job`)",
    "event": "Events (`--queue-url`)",
    "callback": "Callback steps (`--queue-url`)",
    "permission": "Permissions (`--simulate-policy`)",
}


def choose(only: Sequence[str]) -> list[Belief]:
    """
    Return the beliefs that are named.

    :param only: ids, or subjects such as ``stop``; empty for all.
    :raises ParametersError: a name is neither.
    """
    for name in only:
        known = {*SUBJECTS, *(belief.id for belief in BELIEFS)}
        if name not in known:
            similar = nearest_name(name, known)
            cure = f"did you mean {similar}?" if similar else f"the subjects are {', '.join(SUBJECTS)}"
            raise ParametersError(f"--only {shorten(name)} is no check; {cure}")
    return [belief for belief in BELIEFS if not only or {belief.id, belief.subject} & {*only}]
