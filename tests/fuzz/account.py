"""
An account of AWS whose responses are random: repeated tokens, damaged members, sizes,
times and slow bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fakes.fake_sagemaker import Body
from tests.strategies import json_values, texts, variations

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/slow/execution/abcdefghijkl"
TIME = 1.75e9
# Bytes that come slowly take the read timeout of the client, so few responses have
# them.
SLOW_SECONDS = 0.03

_NUMBERS = (
    TIME,
    0,
    -1,
    -62135596800,
    253402300799,
    1e300,
    float("nan"),
    float("inf"),
    10**30,
    True,
)
_TEXTS = (
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-01-01T00:00:00Z",
    "soon",
    "\x00",
)
times = st.sampled_from((*_NUMBERS, *_TEXTS)) | st.none() | st.just([]) | st.just({})
statuses = st.sampled_from(
    ["Executing", "Stopping", "Stopped", "Failed", "Succeeded", "Melting", "", None, 5]
)
STEP = {
    "StepName": "Train",
    "StepStatus": "Failed",
    "FailureReason": "no data",
    "AttemptCount": 1,
    "StartTime": TIME,
    "EndTime": TIME,
    "Metadata": {
        "TrainingJob": {
            "Arn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/job"
        }
    },
}
SUMMARY = {
    "PipelineExecutionArn": ARN,
    "PipelineExecutionStatus": "Executing",
    "StartTime": TIME,
}
PIPELINE = {
    "PipelineName": "slow",
    "PipelineArn": ARN.partition("/execution")[0],
    "CreationTime": TIME,
    "LastModifiedTime": TIME,
    "LastRunTime": TIME,
    "PipelineDefinition": '{"Steps": [{"Name": "Train", "Type": "Training"}]}',
    "ParallelismConfiguration": {"MaxParallelExecutionSteps": 1},
    "PipelineSummaries": [{"PipelineName": "slow"}],
    "logStreams": [{"logStreamName": "job/a", "lastEventTimestamp": 1}],
    "events": [{"message": "out of memory", "timestamp": 1}],
}
members = st.one_of(json_values, times, statuses)
sizes = st.sampled_from([1, 1, 1, 1, 2, 100, 1000])


def damaged(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """
    Return a valid mapping, or one in which some members are missing or have other
    values.
    """
    return st.just(valid) | variations(valid, members)


def repeated(entry: dict[str, Any], size: int, more: list[Any]) -> list[Any]:
    """Return a list of entries, which may be long."""
    return size * [entry] + more


def with_lists(
    described: dict[str, Any],
    steps: list[Any],
    summaries: list[Any],
    changes: dict[str, Any],
) -> dict[str, Any]:
    """Return a response that has the members of all operations."""
    lists = {"PipelineExecutionSteps": steps, "PipelineExecutionSummaries": summaries}
    return {**lists, **described, **changes}


JOB = {
    "TrainingEndTime": TIME,
    "BillableTimeInSeconds": 5,
    "TrainingTimeInSeconds": 5,
    "ResourceConfig": {"InstanceType": "__id__", "InstanceCount": 2**31 - 1},
    "PipelineParameters": [{"Name": "A", "Value": "1"}],
}
MEMBERS = {
    **PIPELINE,
    **SUMMARY,
    **JOB,
    "CreationTime": TIME,
    "LastModifiedTime": TIME,
    "FailureReason": "r",
}
named = st.lists(st.fixed_dictionaries({"Name": texts, "Value": members}), max_size=3)
kinds = st.sampled_from(["Lambda", "TrainingJob", "QuantumJob"])
steps_of_kinds = st.builds(
    lambda kind, made, parameters: {
        **STEP,
        "Metadata": {kind: {**made, "OutputParameters": parameters}},
    },
    kinds,
    st.dictionaries(texts, members, max_size=2),
    named,
)
others = st.lists(members | steps_of_kinds, max_size=2)
responses = st.builds(
    with_lists,
    damaged(MEMBERS),
    st.builds(repeated, damaged(STEP), sizes, others),
    st.builds(repeated, damaged(SUMMARY), sizes, others),
    st.just({})
    | st.dictionaries(
        st.sampled_from(["PipelineExecutionSteps", "PipelineExecutionSummaries"]),
        members,
    )
    | st.fixed_dictionaries({"PipelineParameters": named})
    | named.map(
        lambda entries: {
            "FinalMetricDataList": [
                {"MetricName": each["Name"], "Value": each["Value"]} for each in entries
            ]
        }
    )
    | st.dictionaries(st.sampled_from(["Name", "DefaultValue", "Type"]), members).map(
        lambda parameter: {
            "PipelineDefinition": json.dumps(
                {"Parameters": [{"Name": "P", "Type": "Float", **parameter}]}
            )
        }
    ),
)


@dataclass
class Account:
    """
    Random responses, in turn.

    :param bodies: members of the responses.
    :param tokens: the NextTokens in turn; empty for one that is new on each page.
    :param statuses: the statuses of HTTP in turn.
    :param padding: bytes by which a response is longer.
    :param slow: the number of the response that comes byte by byte; negative for none.
    """

    bodies: list[dict[str, Any]]
    tokens: list[Any]
    statuses: list[int]
    padding: int
    slow: int
    served: int = 0

    def respond(self, operation: str, _: Any) -> Body:
        """Respond to a request."""
        number, self.served = self.served, self.served + 1
        response = self.bodies[number % len(self.bodies)]
        token = (
            self.tokens[number % len(self.tokens)] if self.tokens else f"page-{number}"
        )
        if operation.startswith("List"):
            response = {**response, "NextToken": token}
        content = json.dumps(response).encode() + b" " * self.padding
        slow = SLOW_SECONDS if number == self.slow else 0
        return Body(content, self.statuses[number % len(self.statuses)], slow)


accounts = st.builds(
    Account,
    bodies=st.lists(responses, min_size=1, max_size=3),
    tokens=st.lists(
        st.none() | st.sampled_from(["a", "b", "x" * 9000]) | json_values, max_size=3
    ),
    statuses=st.lists(
        st.sampled_from([200, 200, 200, 200, 400, 429, 500]), min_size=1, max_size=3
    ),
    padding=st.sampled_from(20 * [0] + [2**20, 9 * 2**20]),
    slow=st.sampled_from(20 * [-1] + [0, 1, 2]),
)
