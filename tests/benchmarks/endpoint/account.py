"""
The AWS account of the test server: pipelines, executions that end at a set time, and
statistics of the polls.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

ACCOUNT_ID: Final = "123456789012"
REGION: Final = "us-east-1"
ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT_ID}:role/polysync"
_PIPELINE_ARN_PREFIX: Final = f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:pipeline/"


@dataclass(slots=True, eq=False)
class Execution:
    """
    An execution, and statistics of its polls.

    A poll is a response that contains the execution: its description, or a page of a
    listing.

    :param arn: the ARN.
    :param start: when it starts (Unix time).
    :param end: when it ends (Unix time).
    """

    arn: str
    start: float
    end: float
    first_poll: float | None = None
    longest_gap: float = 0.0
    end_polled: float | None = None
    _last_poll: float = 0.0

    def status(self, now: float) -> str:
        """Return the execution's status as AWS names it."""
        return "Executing" if now < self.end else "Succeeded"

    def record_poll(self, now: float) -> None:
        """
        Record a poll. The first gap begins at the start of the execution; polls after
        the end do not count.
        """
        if self.end_polled is not None:
            return
        if self.first_poll is None:
            self.first_poll, self._last_poll = now, self.start
        self.longest_gap = max(self.longest_gap, now - self._last_poll)
        self._last_poll = now
        if now >= self.end:
            self.end_polled = now


@dataclass(eq=False)
class Pipeline:
    """
    A pipeline with its executions, oldest first.

    :param name: the pipeline's name.
    """

    name: str
    executions: list[Execution] = field(default_factory=list)

    @property
    def arn(self) -> str:
        """The ARN. As in AWS, it contains the name in lower case."""
        return f"{_PIPELINE_ARN_PREFIX}{self.name.lower()}"

    def created_between(self, after: float, before: float) -> tuple[int, int]:
        """
        Return the slice of `executions` (start and stop index) that was created between
        two times.
        """
        return (
            bisect_left(self.executions, after, key=lambda execution: execution.start),
            bisect_right(
                self.executions, before, key=lambda execution: execution.start
            ),
        )


class Account:
    """An AWS account in one region."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Pipeline] = {}
        self.executions: dict[str, Execution] = {}
        # Duration, in seconds, of the executions that StartPipelineExecution starts.
        self.seconds = 60.0
        self._by_arn: dict[str, Pipeline] = {}
        self._by_token: dict[str, Execution] = {}

    def add_pipelines(self, count: int) -> list[Pipeline]:
        """
        Add pipelines until the account has a given number, and return all pipelines.

        :param count: the number of pipelines that the account must have.
        """
        for number in range(len(self.pipelines), count):
            # The name has a capital letter, so that a client that takes the name from
            # the ARN fails.
            pipeline = Pipeline(f"Benchmark-{number:05d}")
            self.pipelines[pipeline.name] = self._by_arn[pipeline.arn] = pipeline
        return list(self.pipelines.values())

    def pipeline(self, name_or_arn: str) -> Pipeline | None:
        """Return a pipeline by its name or ARN; None if there is none."""
        return self.pipelines.get(name_or_arn) or self._by_arn.get(name_or_arn)

    def start(
        self, pipeline: Pipeline, start: float, seconds: float, token: str | None = None
    ) -> Execution:
        """
        Start an execution, or return the execution that the same token started.

        The executions of a pipeline must be added in the order of their start.

        :param pipeline: the pipeline.
        :param start: when the execution starts (Unix time).
        :param seconds: how long it takes.
        :param token: the ClientRequestToken.
        """
        if token and token in self._by_token:
            return self._by_token[token]
        arn = f"{pipeline.arn}/execution/e{len(self.executions):011d}"
        execution = self.executions[arn] = Execution(arn, start, start + seconds)
        pipeline.executions.append(execution)
        if token:
            self._by_token[token] = execution
        return execution

    def start_many(
        self,
        count: int,
        pipelines: int,
        *,
        start: float,
        per_second: float,
        seconds: float,
    ) -> Iterator[tuple[Pipeline, Execution]]:
        """
        Start executions, taking the pipelines in turn.

        :param count: number of executions.
        :param pipelines: number of pipelines.
        :param start: when the first execution starts (Unix time).
        :param per_second: executions that start per second; 0 for all at once.
        :param seconds: how long each execution takes.
        """
        selected = self.add_pipelines(pipelines)[:pipelines]
        for number in range(count):
            pipeline = selected[number % pipelines]
            execution_start = start + (number / per_second if per_second else 0.0)
            yield pipeline, self.start(pipeline, execution_start, seconds)
