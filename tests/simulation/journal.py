"""What happened in a history, in order: its trace, and what the oracle reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.simulation import kernel as kernels


class Owner(NamedTuple):
    """A task instance of a deployment, for which an execution runs."""

    deployment: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __str__(self) -> str:
        mapped = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.deployment}.{self.run_id}.{self.task_id}{mapped}"


class Act(NamedTuple):
    """
    An action of the plan that has been done.

    :param process: which process it has hit; empty if none.
    """

    deployment: str
    run_id: str
    task_id: str
    value: Any
    process: str = ""

    def __str__(self) -> str:
        return f"{self.deployment} {self.task_id} {self.value} {self.process}".rstrip()


@dataclass(frozen=True, slots=True)
class Entry:
    """
    Something that happened.

    :param kind: ``state`` (a task has another one), ``action`` (of the plan), ``told``
        (a text for people), ``next`` (what tab and page say), ``aws`` (a request that
        changes something), ``trigger`` (one begins to run), ``triggerer`` (one was
        killed), ``airflow``.
    :param text: the state, the name of the action, or the text.
    :param owner: the task that it is about; None for what is about no single one.
    :param details: what the kind of entry has besides.
    """

    at: float
    kind: str
    text: str
    owner: Owner | None = None
    details: Any = None

    def __str__(self) -> str:
        seconds = self.at - kernels.START
        details = "" if self.details is None else f" {self.details}"
        return f"{seconds:9.2f} {self.kind} {self.owner or '-'}: {self.text}{details}"


class Journal:
    """What happened so far."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        # Called with each entry.
        self.follow: Callable[[Entry], None] | None = None

    def note(
        self, kind: str, text: str, owner: Owner | None = None, details: Any = None
    ) -> None:
        """Note what happens now."""
        entry = Entry(kernels.KERNEL.now, kind, text, owner, details)
        self.entries.append(entry)
        if self.follow:
            self.follow(entry)

    def of_kind(self, *kinds: str) -> Iterator[Entry]:
        """Yield the entries of some kinds."""
        return (each for each in self.entries if each.kind in kinds)

    @property
    def trace(self) -> str:
        """All entries, as text."""
        return "\n".join(map(str, self.entries))

    @property
    def digest(self) -> str:
        """What is equal if two histories are."""
        return hashlib.sha256(self.trace.encode()).hexdigest()[:12]
