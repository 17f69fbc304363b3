"""
All metrics: names, kinds, units, tags, and what they mean. The documentation, the dashboard and the alert
rules are compared with them.

Airflow puts its prefix before the names, by default ``airflow.``. A tag has few values: those of AWS and of
this provider, the connections and regions that are used, and the hosts of triggerers. Names of pipelines,
DAGs and tasks are not among them, since there may be any number of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge"]

# Those of a task, and those of what a triggerer shares.
_PLACE: Final = ("connection", "region")
_POLLER: Final = ("poller", *_PLACE)


@dataclass(frozen=True)
class Metric:
    """
    A metric.

    :param name: its name, without Airflow's prefix.
    :param kind: a counter only grows; a gauge has the value of now.
    :param unit: what is counted or measured.
    :param tags: the names of its tags, in the order in which plain StatsD, which has no tags, gets their
        values: at the end of the name.
    :param description: what it says, as a sentence without a full stop.
    """

    name: str
    kind: Kind
    unit: str
    tags: tuple[str, ...]
    description: str


EXECUTIONS_STARTED: Final = Metric(
    "polysync.executions.started",
    "counter",
    "executions",
    _PLACE,
    "Executions that Start tasks have started",
)
EXECUTIONS_RESUMED: Final = Metric(
    "polysync.executions.resumed",
    "counter",
    "resumes",
    _PLACE,
    "Resumes of failed executions (RetryPipelineExecution) that AWS has accepted",
)
EXECUTIONS_STOPPED: Final = Metric(
    "polysync.executions.stopped",
    "counter",
    "stops",
    _PLACE,
    "Stops that AWS has accepted, of Start and Stop tasks, of triggers and of the failure callback",
)
EXECUTIONS_ENDED: Final = Metric(
    "polysync.executions.ended",
    "counter",
    "waits",
    ("state", *_PLACE),
    "Waits of Start tasks that have ended. `state` is `Success`, `Failed` or `Cancelled`; `TimedOut` if the "
    "task did not wait any longer; `Refused` if AWS refuses the polls",
)
WAITS: Final = Metric(
    "polysync.waits",
    "gauge",
    "waits",
    (*_POLLER, "host"),
    "Deferred tasks for which a triggerer polls now",
)
CALLS: Final = Metric(
    "polysync.calls",
    "counter",
    "calls",
    ("operation", *_POLLER),
    "Calls of AWS by the pollers. `DescribePipelineExecution` polls one execution, "
    "`ListPipelineExecutions` up to a hundred",
)
CALLS_FAILED: Final = Metric(
    "polysync.calls.failed",
    "counter",
    "calls",
    ("operation", *_POLLER),
    "Those of them that have failed, throttled ones included",
)
CALLS_THROTTLED: Final = Metric(
    "polysync.calls.throttled",
    "counter",
    "calls",
    ("operation", *_POLLER),
    "Those of them that AWS has throttled",
)
CALL_RATE: Final = Metric(
    "polysync.call_rate",
    "gauge",
    "calls per second",
    (*_POLLER, "host"),
    "The rate to which the poller limits its calls now; 800 while AWS throttles nothing",
)
LAST_CALL_AGE: Final = Metric(
    "polysync.last_call_age",
    "gauge",
    "seconds",
    (*_POLLER, "host"),
    "How long ago a call of the poller was successful; 0 if it has no waits",
)
DETECTION_DELAY: Final = Metric(
    "polysync.detection_delay",
    "gauge",
    "seconds",
    (*_POLLER, "host"),
    "The longest time from the end of an execution, by AWS's clock, until the triggerer knew of it, since "
    "the last report; 0 if none has ended",
)
CREDENTIALS_REFRESHED: Final = Metric(
    "polysync.credentials.refreshed",
    "counter",
    "refreshes",
    ("method",),
    "Short-lived AWS credentials that were fetched. `method` is `assume-role`, "
    "`assume-role-with-web-identity` or `host`",
)
CREDENTIALS_FAILED: Final = Metric(
    "polysync.credentials.failed",
    "counter",
    "refreshes",
    ("method",),
    "Attempts to fetch them that have failed",
)
EVENTS_RECEIVED: Final = Metric(
    "polysync.events.received",
    "counter",
    "messages",
    _PLACE,
    "Messages that were received from queues of events",
)
EVENTS_UNREADABLE: Final = Metric(
    "polysync.events.unreadable",
    "counter",
    "messages",
    _PLACE,
    "Those of them that nobody can read, each time that they are received",
)

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
