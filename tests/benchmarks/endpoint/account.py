"""Owns what the account has: pipelines, executions that end at set times, and how each was looked at."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

ACCOUNT_ID: Final = "123456789012"
REGION: Final = "us-east-1"
ROLE_ARN: Final = f"arn:aws:iam::{ACCOUNT_ID}:role/polysync"
_PIPELINES: Final = f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:pipeline/"


@dataclass(slots=True, eq=False)
class Execution:
    """
    One execution, and the looks at it: descriptions, and listings with it on the page.

    :param arn: its ARN.
    :param begins: when it begins (seconds since the epoch).
    :param ends: when it ends.
    """

    arn: str
    begins: float
    ends: float
    first_poll: float | None = None
    longest_gap: float = 0.0
    seen_ended: float | None = None
    _last_look: float = 0.0

    def status(self, now: float) -> str:
        """Return AWS's word for how it is."""
        return "Executing" if now < self.ends else "Succeeded"

    def look(self, now: float) -> None:
        """Take note that somebody saw it. The first gap begins with the execution."""
        if self.seen_ended is not None:
            return
        if self.first_poll is None:
            self.first_poll, self._last_look = now, self.begins
        self.longest_gap = max(self.longest_gap, now - self._last_look)
        self._last_look = now
        if now >= self.ends:
            self.seen_ended = now


@dataclass(eq=False)
class Pipeline:
    """
    One pipeline with its executions, the oldest first.

    :param name: its name.
    """

    name: str
    executions: list[Execution] = field(default_factory=list)

    @property
    def arn(self) -> str:
        """Its ARN, in lower case as AWS has it."""
        return f"{_PIPELINES}{self.name.lower()}"

    def created_within(self, after: float, before: float) -> tuple[int, int]:
        """Return the first of the executions that were created so, and the one after the last."""
        return (
            bisect_left(self.executions, after, key=lambda execution: execution.begins),
            bisect_right(self.executions, before, key=lambda execution: execution.begins),
        )


class Account:
    """An account in one region."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Pipeline] = {}
        self.executions: dict[str, Execution] = {}
        # How long executions take that StartPipelineExecution begins, in seconds.
        self.seconds = 60.0
        self._by_arn: dict[str, Pipeline] = {}
        self._by_token: dict[str, Execution] = {}

    def add_pipelines(self, count: int) -> list[Pipeline]:
        """
        Add pipelines, unless they are there.

        :param count: how many there are afterwards.
        """
        for number in range(len(self.pipelines), count):
            # Whoever reads a name from an ARN, which is in lower case, is found out.
            pipeline = Pipeline(f"Benchmark-{number:05d}")
            self.pipelines[pipeline.name] = self._by_arn[pipeline.arn] = pipeline
        return list(self.pipelines.values())

    def pipeline(self, name_or_arn: str) -> Pipeline | None:
        """Find a pipeline."""
        return self.pipelines.get(name_or_arn) or self._by_arn.get(name_or_arn)

    def start(self, pipeline: Pipeline, begins: float, seconds: float, token: str | None = None) -> Execution:
        """
        Start an execution, or return the one that this token started. Later ones begin no earlier.

        :param pipeline: of which pipeline.
        :param begins: when (seconds since the epoch).
        :param seconds: how long it takes.
        :param token: ClientRequestToken.
        """
        if token and token in self._by_token:
            return self._by_token[token]
        arn = f"{pipeline.arn}/execution/e{len(self.executions):011d}"
        execution = self.executions[arn] = Execution(arn, begins, begins + seconds)
        pipeline.executions.append(execution)
        if token:
            self._by_token[token] = execution
        return execution

    def start_many(
        self, count: int, pipelines: int, *, begin: float, per_second: float, seconds: float
    ) -> Iterator[tuple[Pipeline, Execution]]:
        """
        Start executions of several pipelines in turn.

        :param count: how many.
        :param pipelines: of how many pipelines.
        :param begin: when the first begins (seconds since the epoch).
        :param per_second: how many begin each second; 0 for all at once.
        :param seconds: how long each takes.
        """
        found = self.add_pipelines(pipelines)[:pipelines]
        for number in range(count):
            pipeline = found[number % pipelines]
            begins = begin + (number / per_second if per_second else 0.0)
            yield pipeline, self.start(pipeline, begins, seconds)
