"""
What fills the queue of watchers, as a template of CloudFormation: rules of EventBridge, the queue, its
dead-letter queue and policy.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html and
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html

SQS does not tell whether others receive the messages of a queue, too. So a reader gives messages back before
it uses them. SQS hands a message to one consumer at a time, so one that others take, and delete, does not
return.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events import changes
from polysync_airflow.execution.models import PIPELINE_NAME_PATTERN
from polysync_airflow.execution.texts import shorten
from polysync_airflow.states import STATE_OF_STATUS, has_ended

# The longest suffix makes 64 characters, the limit of a rule's name.
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
MAX_PATTERN: Final = 2048
MAX_RECEIVES: Final = 1000
# A reader gives a new message back once, and a triggerer may be killed.
FEWEST_RECEIVES: Final = 3
# Longer than Airflow needs to store an event, and how long a message waits after its triggerer was killed.
VISIBILITY_SECONDS: Final = 30
DEAD_LETTER_SECONDS: Final = 14 * 24 * 3600
RETENTION_SECONDS: Final = 4 * 24 * 3600
WAIT_SECONDS: Final = 20
# The most messages of a call that SQS allows.
BATCH: Final = 10
# A policy that allows a reader what it needs, given the ARN of the queue.
ReaderPolicy = Callable[[str], Mapping[str, Any]]
_END_STATUSES: Final = [status for status in STATE_OF_STATUS if has_ended(status)]


@dataclass(frozen=True)
class Setup:
    """
    What to set up.

    :param queue: the name of the queue.
    :param pipelines: the names of the pipelines; empty for all.
    :param running: also events of executions and steps that begin or are stopping.
    :param steps: also events of steps.
    :param model_packages: also events of model packages.
    :param groups: the groups of these model packages; empty for all.
    :param max_receives: how often a message is received before SQS moves it to the dead-letter queue.
    """

    queue: str
    pipelines: tuple[str, ...] = ()
    running: bool = False
    steps: bool = False
    model_packages: bool = False
    groups: tuple[str, ...] = ()
    max_receives: int = 5

    def check(self) -> None:
        """
        Check the values.

        :raises ParametersError: one of them is not valid.
        """
        if not _QUEUE_NAME.fullmatch(self.queue):
            raise ParametersError(
                f"--queue {shorten(self.queue)}: give a name of 1 to 48 letters, digits, '-' and '_'."
            )
        for option, names, pattern in (
            ("--pipeline", self.pipelines, PIPELINE_NAME_PATTERN),
            ("--model-package-group", self.groups, changes.GROUP_PATTERN),
        ):
            for name in names:
                if not re.fullmatch(pattern, name):
                    raise ParametersError(
                        f"{option} {shorten(name)} is not a name: give it without wildcards."
                    )
        if not FEWEST_RECEIVES <= self.max_receives <= MAX_RECEIVES:
            raise ParametersError(
                f"--max-receives {self.max_receives}: give {FEWEST_RECEIVES} to {MAX_RECEIVES}."
            )
        for name, rule in self.rules().items():
            if len(json.dumps(rule)) > MAX_PATTERN:
                raise ParametersError(
                    f"The pattern of the rule {name} has more than {MAX_PATTERN:,} characters: name fewer "
                    "pipelines or groups, or none for all, and let the watchers select."
                )

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the event pattern of each rule, by the suffix of its name."""
        ends: dict[str, Any] = {} if self.running else {"currentPipelineExecutionStatus": _END_STATUSES}
        found = {"executions": _pattern(changes.EXECUTION_CHANGE, {**ends, **self._of_pipelines()})}
        if self.steps:
            ends = {} if self.running else {"currentStepStatus": _END_STATUSES}
            found["steps"] = _pattern(changes.STEP_CHANGE, {**ends, **self._of_pipelines()})
        if self.model_packages or self.groups:
            groups = {"ModelPackageGroupName": list(self.groups)} if self.groups else {}
            found["model-packages"] = _pattern(changes.MODEL_PACKAGE_CHANGE, groups)
        return found

    def _of_pipelines(self) -> dict[str, Any]:
        # ARNs of older pipelines have the name in lower case.
        names = sorted({spelling for name in self.pipelines for spelling in (name, name.lower())})
        return {"pipelineArn": [{"suffix": f":pipeline/{name}"} for name in names]} if names else {}


def cloudformation(setup: Setup, reader_policy: ReaderPolicy) -> dict[str, Any]:
    """Return a template of CloudFormation, which needs the capability ``CAPABILITY_IAM``."""
    arn = {"Fn::GetAtt": ["Queue", "Arn"]}
    rules = {
        f"{suffix.title().replace('-', '')}Rule": (suffix, rule) for suffix, rule in setup.rules().items()
    }
    rule_arns = [{"Fn::GetAtt": [name, "Arn"]} for name in rules]
    resources: dict[str, Any] = {
        "DeadLetterQueue": _resource(
            "SQS::Queue", QueueName=f"{setup.queue}-dead-letters", MessageRetentionPeriod=DEAD_LETTER_SECONDS
        ),
        "Queue": _resource(
            "SQS::Queue",
            QueueName=setup.queue,
            VisibilityTimeout=VISIBILITY_SECONDS,
            MessageRetentionPeriod=RETENTION_SECONDS,
            ReceiveMessageWaitTimeSeconds=WAIT_SECONDS,
            RedrivePolicy={
                "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
                "maxReceiveCount": setup.max_receives,
            },
        ),
        "QueuePolicy": _resource(
            "SQS::QueuePolicy", Queues=[{"Ref": "Queue"}], PolicyDocument=_queue_policy(arn, rule_arns)
        ),
    }
    for name, (suffix, rule) in rules.items():
        target = {"Id": "queue", "Arn": arn}
        resources[name] = _resource(
            "Events::Rule", Name=f"{setup.queue}-{suffix}", EventPattern=rule, Targets=[target]
        )
    policy = reader_policy("QUEUE")
    resources["ReaderPolicy"] = _resource(
        "IAM::ManagedPolicy", PolicyDocument=_replaced(policy, "QUEUE", arn)
    )
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "A queue with events of SageMaker for Airflow",
        "Resources": resources,
        "Outputs": {
            "QueueUrl": {"Value": {"Ref": "Queue"}},
            "ReaderPolicyArn": {"Value": {"Ref": "ReaderPolicy"}},
        },
    }


def _pattern(detail_type: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    pattern: dict[str, Any] = {"source": [changes.SOURCE], "detail-type": [detail_type]}
    return {**pattern, "detail": dict(detail)} if detail else pattern


def _queue_policy(queue_arn: Any, rule_arns: list[Any]) -> dict[str, Any]:
    statement = {
        "Sid": "EventBridge",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        # Without it, rules of other accounts could fill the queue.
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arns}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": f"AWS::{kind}", "Properties": properties}


def _replaced(value: Any, placeholder: str, by: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _replaced(member, placeholder, by) for name, member in value.items()}
    if isinstance(value, list):
        return [_replaced(item, placeholder, by) for item in value]
    return by if value == placeholder else value


# Who joins later finds out by itself, if it is a reader.
CHECK_EVERY_SECONDS: Final = 24 * 3600.0
# A message that a killed process has received returns when its visibility timeout has passed.
RETURN_SECONDS: Final = 2.0 * VISIBILITY_SECONDS
# A receive that had room for more has asked all servers of SQS. How many must not bring the message then.
MIN_RECEIVES: Final = 3


class ConsumerCheck:
    """A check of a queue, which is repeated once a day. Times are seconds of ``clock.monotonic``."""

    def __init__(self) -> None:
        self.begin((), -math.inf)

    def is_due(self, now: float) -> bool:
        """Return whether new messages are to be given back."""
        return now - self._begun_at >= CHECK_EVERY_SECONDS

    def begin(self, message_ids: Iterable[str], now: float) -> None:
        """Note which messages were given back."""
        self._begun_at, self._given_back, self._receives = now, set(message_ids), 0

    def missing(self, message_ids: Iterable[str], *, has_room: bool, now: float) -> set[str]:
        """
        Return the messages that others have taken, once.

        :param message_ids: the messages of a receive.
        :param has_room: it could have had more of them.
        """
        self._given_back.difference_update(message_ids)
        self._receives += has_room and now - self._begun_at >= RETURN_SECONDS
        if self._receives < MIN_RECEIVES:
            return set()
        missing, self._given_back = self._given_back, set()
        return missing
